// The route table against the list of Docker's endpoints, and the negotiation of versions.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "api/api_private.h"

// Every endpoint of the published API and the undocumented ones that clients use; S: Swarm's.
static const char *const endpoints[] = {
    "GET /_ping", "HEAD /_ping", "GET /version", "GET /info", "GET /events", "GET /system/df", "POST /auth",
    "GET /containers/json", "POST /containers/create", "GET /containers/x/json", "GET /containers/x/top",
    "GET /containers/x/logs", "GET /containers/x/changes", "GET /containers/x/export", "GET /containers/x/stats",
    "POST /containers/x/resize", "POST /containers/x/start", "POST /containers/x/stop", "POST /containers/x/restart",
    "POST /containers/x/kill", "POST /containers/x/update", "POST /containers/x/rename", "POST /containers/x/pause",
    "POST /containers/x/unpause", "POST /containers/x/attach", "GET /containers/x/attach/ws", "POST /containers/x/wait",
    "DELETE /containers/x", "HEAD /containers/x/archive", "GET /containers/x/archive", "PUT /containers/x/archive",
    "POST /containers/prune",
    "POST /containers/x/exec", "POST /exec/x/start", "POST /exec/x/resize", "GET /exec/x/json",
    "GET /images/json", "POST /images/create", "GET /images/x/json", "GET /images/x/history", "POST /images/x/push",
    "POST /images/x/tag", "DELETE /images/x", "GET /images/search", "POST /images/prune", "POST /commit",
    "GET /images/x/get", "GET /images/get", "POST /images/load", "GET /images/x/attestations",
    "POST /build", "POST /build/prune", "POST /build/cancel", "POST /session", "POST /grpc",
    "GET /networks", "GET /networks/", "GET /networks/x", "DELETE /networks/x", "POST /networks/create",
    "POST /networks/x/connect", "POST /networks/x/disconnect", "POST /networks/prune",
    "GET /volumes", "POST /volumes/create", "GET /volumes/x", "S PUT /volumes/x", "DELETE /volumes/x", "POST /volumes/prune",
    "GET /distribution/x/json",
    "GET /plugins", "GET /plugins/privileges", "POST /plugins/pull", "GET /plugins/x/json", "DELETE /plugins/x",
    "POST /plugins/x/enable", "POST /plugins/x/disable", "POST /plugins/x/upgrade", "POST /plugins/create",
    "POST /plugins/x/push", "POST /plugins/x/set",
    "GET /containers/x/checkpoints", "POST /containers/x/checkpoints", "DELETE /containers/x/checkpoints/y",
    "S GET /swarm", "S POST /swarm/init", "S POST /swarm/join", "S POST /swarm/leave", "S POST /swarm/update",
    "S POST /swarm/unlock", "S GET /swarm/unlockkey", "S GET /nodes", "S GET /nodes/x", "S DELETE /nodes/x",
    "S POST /nodes/x/update", "S GET /services", "S POST /services/create", "S GET /services/x", "S DELETE /services/x",
    "S POST /services/x/update", "S GET /services/x/logs", "S GET /tasks", "S GET /tasks/x", "S GET /tasks/x/logs",
    "S GET /secrets", "S POST /secrets/create", "S GET /secrets/x", "S DELETE /secrets/x", "S POST /secrets/x/update",
    "S GET /configs", "S POST /configs/create", "S GET /configs/x", "S DELETE /configs/x", "S POST /configs/x/update",
    "OPTIONS /any/path",
};

struct found {
    struct arena arena;
    const struct route *route;
    int version;
    char *values[HTTPD_ROUTE_VALUES];
    bool old;
    struct err err;
};

static int find(struct found *found, const char *method, const char *path)
{
    *found = (struct found){ 0 };
    return route_find(method, path, &found->arena, &found->route, &found->version, found->values, &found->old,
                      &found->err);
}

static void test_every_endpoint_is_known(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(endpoints); i++) {
        struct found found;
        bool swarm = str_starts(endpoints[i], "S ");
        const char *text = endpoints[i] + (swarm ? 2 : 0);
        _cleanup_free_ char *method = mem_strndup(text, strcspn(text, " "));
        const char *path = strchr(text, ' ') + 1;
        if (find(&found, method, path) < 0)
            fail_msg("%s: %s", text, found.err.message);
        if ((found.route->kind == ROUTE_SWARM) != swarm)
            fail_msg("%s: kind %d", text, found.route->kind);
        arena_done(&found.arena);
    }
    assert_int_equal(api_route_len, ARRAY_LEN(endpoints));
}

static void test_the_table_is_sound(void **state)
{
    for (size_t i = 0; i < api_route_len; i++) {
        const struct route *route = &api_routes[i];
        assert_int_equal(route->kind == ROUTE_SERVED, route->handler != NULL);
        for (size_t k = 0; k < i; k++)
            if (str_eq(api_routes[k].method, route->method) && str_eq(api_routes[k].pattern, route->pattern))
                fail_msg("%s %s stands there twice", route->method, route->pattern);
    }
}

static void test_paths(void **state)
{
    static const struct {
        const char *method, *path, *pattern, *value; // pattern NULL: page not found
    } cases[] = {
        { "GET", "/containers/json", "/containers/json", NULL },
        { "GET", "/v1.41/containers/web/json", "/containers/{id...}/json", "web" },
        { "GET", "/containers//web/json", "/containers/{id...}/json", "web" },
        { "GET", "/containers/create", NULL, NULL },
        { "PATCH", "/containers/json", NULL, NULL },
        { "DELETE", "/_ping", NULL, NULL },
        { "GET", "/nosuch", NULL, NULL },
        { "GET", "/v1.99/nosuch", NULL, NULL },
        { "GET", "/", NULL, NULL },
        { "GET", "/v1.41", NULL, NULL },
        { "GET", "/vx/info", NULL, NULL },
        { "GET", "/images/json", "/images/json", NULL },
        { "GET", "/images/127.0.0.1:5000/lib/bb/json", "/images/{name...}/json", "127.0.0.1:5000/lib/bb" },
        { "GET", "/images/get", "/images/get", NULL },
        { "GET", "/images/a/get/get", "/images/{name...}/get", "a/get" },
        { "DELETE", "/images/a/b:1", "/images/{name...}", "a/b:1" },
        { "POST", "/images/load", "/images/load", NULL },
        { "GET", "/networks/", "/networks/", NULL },
        { "GET", "/plugins/a/b:latest/json", "/plugins/{name...}/json", "a/b:latest" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct found found;
        bool known = find(&found, cases[i].method, cases[i].path) == 0;
        if (known != (cases[i].pattern != NULL) || (known && !str_eq(found.route->pattern, cases[i].pattern)))
            fail_msg("%s %s: %s", cases[i].method, cases[i].path, known ? found.route->pattern : found.err.message);
        if (known && cases[i].value)
            assert_string_equal(found.values[0], cases[i].value);
        if (!known) {
            assert_string_equal(found.err.message, "page not found");
            assert_int_equal(found.err.class, ERR_NOT_FOUND);
        }
        arena_done(&found.arena);
    }
}

static void test_versions(void **state)
{
    static const struct {
        const char *path;
        int version; // -1: refused
        bool old;
        const char *message;
    } cases[] = {
        { "/info", 51, false, NULL },
        { "/v1.21/info", 21, false, NULL },
        { "/v1.51/info", 51, false, NULL },
        { "/v1.52/info", -1, false, "client version 1.52 is too new. Maximum supported API version is 1.51" },
        { "/v1.99/info", -1, false, "client version 1.99 is too new. Maximum supported API version is 1.51" },
        { "/v2.0/info", -1, false, "client version 2.0 is too new. Maximum supported API version is 1.51" },
        { "/v1.20/info", -1, true,
          "client version 1.20 is too old. Minimum supported API version is 1.21, please upgrade your client to a newer "
          "version" },
        { "/v0.30/info", -1, true, NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct found found;
        int result = find(&found, "GET", cases[i].path);
        if ((result < 0) != (cases[i].version < 0) || (result == 0 && found.version != cases[i].version))
            fail_msg("%s: %d %s", cases[i].path, found.version, found.err.message);
        assert_int_equal(found.old, cases[i].old);
        if (cases[i].message)
            assert_string_equal(found.err.message, cases[i].message);
        arena_done(&found.arena);
    }
}

static void test_urgent(void **state)
{
    assert_true(api_is_urgent(NULL, "GET", "/_ping"));
    assert_true(api_is_urgent(NULL, "POST", "/v1.41/containers/x/stop"));
    assert_true(api_is_urgent(NULL, "POST", "/containers/x/kill"));
    assert_false(api_is_urgent(NULL, "POST", "/containers/x/start"));
    assert_false(api_is_urgent(NULL, "GET", "/nosuch"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_endpoint_is_known), cmocka_unit_test(test_the_table_is_sound),
        cmocka_unit_test(test_paths),                   cmocka_unit_test(test_versions),
        cmocka_unit_test(test_urgent),
    };
    return cmocka_run_group_tests_name("api_router", tests, NULL, NULL);
}
