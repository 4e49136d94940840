// What a worker is told about registries: one JSON line on its standard input, because it has secrets.
#include "transfer/transfer.h"
#include "json/json.h"

static const struct json_field remote_fields[] = {
    JSON_FIELD("username", JSON_TEXT, struct transfer_remote, login.username),
    JSON_FIELD("password", JSON_TEXT, struct transfer_remote, login.password),
    JSON_FIELD("identity_token", JSON_TEXT, struct transfer_remote, login.identity_token),
    JSON_FIELD("registry_token", JSON_TEXT, struct transfer_remote, login.registry_token),
    JSON_FIELD("insecure", JSON_TEXTS, struct transfer_remote, options.insecure),
    JSON_FIELD("mirrors", JSON_TEXTS, struct transfer_remote, options.mirrors),
    JSON_FIELD("downloads", JSON_INT, struct transfer_remote, downloads),
    JSON_FIELD("uploads", JSON_INT, struct transfer_remote, uploads),
    JSON_FIELD("attempts", JSON_INT, struct transfer_remote, options.attempts),
    JSON_FIELD("certs_dir", JSON_TEXT, struct transfer_remote, options.certs_dir),
};
static const struct json_table remote_table = JSON_TABLE(struct transfer_remote, remote_fields);

int transfer_read_line(int fd, struct buf *line, struct err *err)
{
    for (;;) {
        char c; // what follows the line is another's
        ssize_t got = fd_read_full(fd, &c, 1, err);
        if (got <= 0)
            return got < 0 ? -1 : err_set(err, ERR_CANCELLED, "the daemon is gone");
        if (c == '\n')
            return buf_check(line, "request", err);
        buf_addc(line, c);
    }
}

int transfer_read_remote(int fd, struct arena *arena, struct transfer_remote *out, struct err *err)
{
    _cleanup_buf_ struct buf line = BUF_INIT(TRANSFER_LINE_MAX);
    if (transfer_read_line(fd, &line, err) < 0)
        return -1;
    return json_decode_text(&remote_table, buf_text(&line), line.size, out, arena, NULL, err);
}
