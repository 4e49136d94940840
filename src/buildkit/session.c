// What a build asks its client for, beside files.
#include "buildkit_private.h"

#define ANSWER_NS (60 * NS_PER_S) // a client may have to ask its user
#define SECRET_MAX ((size_t)500 << 10) // as BuildKit has it

static int ask(struct buildkit_session *session, const char *path, const struct proto_message *asked, const void *in,
               const struct proto_message *answered, struct arena *arena, void *out, struct err *err)
{
    _cleanup_buf_ struct buf message = BUF_INIT(64 << 10), answer = BUF_INIT(1 << 20);
    const struct grpc_request request = { .path = path, .timeout_ns = ANSWER_NS };
    proto_encode(asked, in, &message);
    if (buf_check(&message, path, err) < 0 ||
        grpc_unary(session->grpc, &request, (struct slice){ buf_text(&message), message.size }, &answer, err) < 0)
        return -1;
    char *kept = arena_alloc(arena, answer.size + 1);
    memcpy(kept, buf_text(&answer), answer.size);
    return proto_decode((struct slice){ kept, answer.size }, answered, arena, out, err);
}

int buildkit_secret(struct buildkit_session *session, const char *id, struct buf *out, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    const struct secret_request request = { (char *)id };
    struct bytes_message answer;
    if (ask(session, "/moby.buildkit.secrets.v1.Secrets/GetSecret", &secret_request_table, &request, &bytes_table, &arena, &answer, err) < 0)
        return -1;
    if (answer.data.size > SECRET_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "secret %s is larger than %zu bytes", id, SECRET_MAX);
    buf_add(out, answer.data.data, answer.data.size);
    return buf_check(out, "secret", err);
}

int buildkit_login(struct buildkit_session *session, const char *host, struct arena *arena, char **username, char **secret, struct err *err)
{
    const struct credentials_request request = { (char *)host };
    struct credentials_response answer = { 0 };
    struct err none = { 0 };
    *username = *secret = arena_strdup(arena, "");
    if (ask(session, "/moby.filesync.v1.Auth/Credentials", &credentials_request_table, &request, &credentials_response_table, arena, &answer,
            &none) < 0)
        return none.class == ERR_NOT_IMPLEMENTED || none.class == ERR_NOT_FOUND ? 0 : err_set(err, none.class, "%s", none.message);
    *username = answer.username ? answer.username : *username;
    *secret = answer.secret ? answer.secret : *secret;
    return 0;
}
