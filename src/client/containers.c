// The verbs on containers that are one request each, and the small lists: top, port, diff.
#include <sys/ioctl.h>

#include "client/client_private.h"
#include "client/text.h"
#include "base/num.h"

static int request(struct call *call, const char *method, const char *name, const char *rest, bool query, json_t **out, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT;
    path_put(&path, "/containers/", name, rest);
    if (query)
        flags_to_query(&call->flags, &path);
    return api_json(call->client, method, buf_text(&path), NULL, out, err);
}

// ---- a request for each, and its name printed -----------------------------------------------------------------------

// The last word of the command is the end of the path: stop, kill, pause, ...
static int act_on(struct call *call, const char *name, struct err *err)
{
    const char *verb = strrchr(call->command->path, ' ');
    char rest[32];
    snprintf(rest, sizeof(rest), "/%s", verb ? verb + 1 : call->command->path);
    if (request(call, "POST", name, rest, true, NULL, err) < 0)
        return -1;
    printf("%s\n", name);
    fflush(stdout);
    return 0;
}

int command_stop(struct call *call, struct err *err)
{
    return each_argument(call, act_on, err);
}

int command_restart(struct call *call, struct err *err)
{
    return each_argument(call, act_on, err);
}

int command_kill(struct call *call, struct err *err)
{
    return each_argument(call, act_on, err);
}

int command_pause(struct call *call, struct err *err)
{
    return each_argument(call, act_on, err);
}

int command_unpause(struct call *call, struct err *err)
{
    return each_argument(call, act_on, err);
}

static int remove_one(struct call *call, const char *name, struct err *err)
{
    name += strspn(name, "/");
    if (request(call, "DELETE", name, "", true, NULL, err) < 0)
        return flag_on(&call->flags, "force") && err->class == ERR_NOT_FOUND ? fprintf(stderr, "%s\n", err->message), 0 : -1;
    printf("%s\n", name);
    return 0;
}

int command_rm(struct call *call, struct err *err)
{
    return each_argument(call, remove_one, err);
}

static int wait_one(struct call *call, const char *name, struct err *err)
{
    struct http_exchange x;
    int code = wait_begin(call->client, name, NULL, &x, err);
    if (code == 0)
        code = wait_end(call->client, &x, err);
    if (code < 0)
        return -1;
    printf("%d\n", code);
    fflush(stdout);
    return 0;
}

int command_wait(struct call *call, struct err *err)
{
    return each_argument(call, wait_one, err);
}

int command_rename(struct call *call, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT;
    path_put(&path, "/containers/", call->args.items[0], "/rename");
    query_add(&path, "name", call->args.items[1]);
    if (api_json(call->client, "POST", buf_text(&path), NULL, NULL, err) >= 0)
        return 0;
    fprintf(stderr, "%s\n", err->message);
    return err_set(err, err->class, "Error: failed to rename container named %s", call->args.items[0]);
}

// ---- update ---------------------------------------------------------------------------------------------------------

static int update_one(struct call *call, const char *name, struct err *err)
{
    _cleanup_json_ json_t *body = json_object(), *answer = NULL;
    _cleanup_buf_ struct buf path = PATH_INIT;
    size_t i;
    json_t *warning;
    flags_to_body(&call->flags, body);
    if (flag_set(&call->flags, "restart")) {
        body_put(body, "HostConfig", json_object());
        if (put_restart(call, body, err) < 0)
            return -1;
        json_object_set(body, "RestartPolicy", json_object_get(json_object_get(body, "HostConfig"), "RestartPolicy"));
        json_object_del(body, "HostConfig");
    }
    path_put(&path, "/containers/", name, "/update");
    if (api_json(call->client, "POST", buf_text(&path), json_incref(body), &answer, err) < 0)
        return -1;
    printf("%s\n", name);
    json_array_foreach(json_object_get(answer, "Warnings"), i, warning)
        fprintf(stderr, "%s\n", json_string_value(warning));
    return 0;
}

int command_update(struct call *call, struct err *err)
{
    if (!call->flags.len)
        return err_set(err, ERR_INVALID_ARGUMENT, "you must provide one or more flags when using this command");
    return each_argument(call, update_one, err);
}

// ---- top, port, diff ------------------------------------------------------------------------------------------------

static void put_cells(const json_t *cells, struct buf *out)
{
    for (size_t i = 0; i < json_array_size(cells); i++)
        buf_addf(out, "%s%s", i ? "\t" : "", item_text(cells, i));
    buf_addc(out, '\n');
}

int command_top(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *answer = NULL;
    _cleanup_buf_ struct buf path = PATH_INIT, options = BUF_INIT(1u << 16), text = BUF_INIT(64u << 20), table = BUF_INIT(128u << 20);
    size_t i;
    json_t *process;
    path_put(&path, "/containers/", call->args.items[0], "/top");
    for (i = 1; i < call->args.len; i++)
        buf_addf(&options, "%s%s", i > 1 ? " " : "", call->args.items[i]);
    if (options.size)
        query_add(&path, "ps_args", buf_text(&options));
    if (api_json(call->client, "GET", buf_text(&path), NULL, &answer, err) < 0)
        return -1;
    put_cells(json_object_get(answer, "Titles"), &text);
    json_array_foreach(json_object_get(answer, "Processes"), i, process)
        put_cells(process, &text);
    text_table((struct slice){ buf_text(&text), text.size }, 20, 3, &table);
    fputs(buf_text(&table), stdout);
    return 0;
}

// Digits by their value, so that 9 comes before 10.
static int natural(const void *a, const void *b)
{
    return strverscmp(*(char *const *)a, *(char *const *)b);
}

static void add_bindings(const char *port, const json_t *bindings, struct strv *out)
{
    for (size_t i = 0; i < json_array_size(bindings); i++) {
        const json_t *one = json_array_get(bindings, i);
        const char *ip = json_get_text(one, "HostIp", ""), *host = json_get_text(one, "HostPort", "");
        strv_addf(out, strchr(ip, ':') ? "%s%s[%s]:%s" : "%s%s%s:%s", port ? port : "", port ? " -> " : "", ip, host);
    }
}

int command_port(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *container = NULL;
    _cleanup_strv_ struct strv lines = { 0 };
    const char *name = call->args.items[0], *wanted = call->args.len > 1 ? call->args.items[1] : NULL, *key;
    json_t *bindings;
    uint64_t number;
    if (request(call, "GET", name, "/json", false, &container, err) < 0)
        return -1;
    json_t *ports = json_object_get(json_object_get(container, "NetworkSettings"), "Ports");
    if (wanted) {
        struct slice port, rest = slice_of(wanted);
        slice_cut(&rest, '/', &port);
        if (!num_parse_u64(port, 65535, &number))
            return err_set(err, ERR_INVALID_ARGUMENT, "Error: invalid port (%.*s): strconv.ParseUint: parsing \"%.*s\": invalid syntax",
                           (int)port.size, port.data, (int)port.size, port.data);
        char full[64];
        snprintf(full, sizeof(full), "%.*s/%s", (int)port.size, port.data, rest.data && rest.size ? rest.data : "tcp");
        add_bindings(NULL, json_object_get(ports, full), &lines);
        if (!lines.len)
            return err_set(err, ERR_NOT_FOUND, "Error: No public port '%s' published for %s", wanted, name);
    } else {
        json_object_foreach(ports, key, bindings)
            add_bindings(key, bindings, &lines);
    }
    if (lines.len)
        qsort(lines.items, lines.len, sizeof(*lines.items), natural);
    for (size_t i = 0; i < lines.len; i++)
        printf("%s\n", lines.items[i]);
    return 0;
}

int command_diff(struct call *call, struct err *err)
{
    static const char kinds[] = "CAD";
    _cleanup_json_ json_t *changes = NULL;
    size_t i;
    json_t *change;
    if (request(call, "GET", call->args.items[0], "/changes", false, &changes, err) < 0)
        return -1;
    json_array_foreach(changes, i, change) {
        int64_t kind = json_get_int(change, "Kind", 0);
        printf("%c %s\n", kind >= 0 && kind < 3 ? kinds[kind] : '?', json_get_text(change, "Path", ""));
    }
    return 0;
}
