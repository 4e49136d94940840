// Who a build is to those whom it fetches from: what the client's secrets say, under the names that BuildKit asks for, and its ssh agent. None of it is
// in a step's key.
#include <errno.h>
#include <gnutls/gnutls.h>
#include <sys/stat.h>

#include "builder_private.h"
#include "engine/remote.h"

#define LOGIN_MAX ((size_t)8 << 10)

struct login_name {
    const char *name;
    const char *form; // of the header; NULL: the secret is it
    bool encoded; // the form stands behind "basic ", as base64
};

static const char *encoded(const char *text, struct arena *arena)
{
    const gnutls_datum_t in = { (unsigned char *)text, (unsigned)strlen(text) };
    gnutls_datum_t out = { 0 };
    const char *value = gnutls_base64_encode2(&in, &out) == 0 ? arena_printf(arena, "basic %.*s", (int)out.size, (const char *)out.data) : NULL;
    gnutls_free(out.data);
    return value;
}

// What could be more than one line of a request is nobody's login.
static int make_header(const struct login_name *name, const struct buf *secret, struct arena *arena, const char **out, struct err *err)
{
    struct slice text = slice_trim((struct slice){ buf_text(secret), secret->size });
    for (size_t i = 0; i < text.size; i++)
        if ((unsigned char)text.data[i] < ' ')
            return err_set(err, ERR_INVALID_ARGUMENT, "secret %s: not one line", name->name);
    const char *value = arena_printf(arena, "%s%.*s", name->form ? name->form : "", (int)text.size, text.data);
    *out = name->encoded ? encoded(value, arena) : value;
    return 0;
}

// The first that the client has.
static int find(struct build *build, const struct login_name *names, size_t len, const char **out, struct err *err)
{
    *out = NULL;
    for (size_t i = 0; i < len && !*out && build->request->secret; i++) {
        struct buf secret = BUF_INIT(LOGIN_MAX);
        struct err missing = { 0 };
        int got = crew_secret(build, names[i].name, &secret, &missing);
        if (got == 0)
            got = make_header(&names[i], &secret, build->arena, out, err);
        else if (missing.class == ERR_NOT_FOUND)
            got = 0;
        else
            err_set(err, missing.class, "secret %s: %s", names[i].name, missing.message);
        if (secret.size)
            explicit_bzero(secret.data, secret.size);
        buf_done(&secret);
        if (got < 0)
            return -1;
    }
    return 0;
}

// "host:port" of a URL; "" where it is none.
static const char *host_of(const char *url, bool port, struct arena *arena)
{
    const char *begin = strstr(url, "://");
    struct slice host = { begin ? begin + 3 : "", begin ? strcspn(begin + 3, "/?#") : 0 };
    for (size_t i = 0; i < host.size; i++)
        if (host.data[i] == '@')
            return host_of(arena_printf(arena, "://%.*s", (int)(host.size - i - 1), host.data + i + 1), port, arena);
    const char *end = port || host.size == 0 || host.data[0] == '[' ? NULL : memchr(host.data, ':', host.size);
    return arena_strndup(arena, host.data, end ? (size_t)(end - host.data) : host.size);
}

int login_of_url(struct build *build, const char *url, const char **out, struct err *err)
{
    struct arena *arena = build->arena;
    const char *host = host_of(url, false, arena);
    const struct login_name names[] = { { arena_printf(arena, "HTTP_AUTH_HEADER_%s", host), NULL, false },
                                        { arena_printf(arena, "HTTP_AUTH_TOKEN_%s", host), "Bearer ", false } };
    return find(build, names, ARRAY_LEN(names), out, err);
}

// git's user is not ours: the folder is the fence.
static int begin_agent(struct build *build, int folder_fd, struct agent **out, struct err *err)
{
    const struct build_request *request = build->request;
    struct err missing = { 0 };
    if (!request->agent || request->agent(request->agent_of, "default", -1, -1, &missing) < 0)
        return missing.class == ERR_CANCELLED ? err_set(err, ERR_CANCELLED, "%s", missing.message) : 0;
    *out = agent_start(request, "default", folder_fd, REMOTE_GIT_AGENT, build->arena, err);
    if (*out && fchmodat(folder_fd, REMOTE_GIT_AGENT, 0666, 0) == 0)
        return 0;
    agent_stop(*out);
    *out = NULL;
    return err->class != ERR_NONE ? -1 : err_errno(err, errno, "agent");
}

int git_login_begin(struct build *build, const char *url, int folder_fd, struct git_login *out, struct err *err)
{
    struct arena *arena = build->arena;
    *out = (struct git_login){ 0 };
    if (!str_starts(url, "http://") && !str_starts(url, "https://"))
        return str_starts(url, "git://") ? 0 : begin_agent(build, folder_fd, &out->agent, err);
    const char *host = host_of(url, true, arena);
    const struct login_name names[] = { { arena_printf(arena, "GIT_AUTH_HEADER.%s", host), NULL, false },
                                        { arena_printf(arena, "GIT_AUTH_TOKEN.%s", host), "x-access-token:", true },
                                        { "GIT_AUTH_HEADER", NULL, false },
                                        { "GIT_AUTH_TOKEN", "x-access-token:", true } };
    return find(build, names, ARRAY_LEN(names), &out->authorization, err);
}

void git_login_end(struct git_login *login)
{
    agent_stop(login->agent);
}
