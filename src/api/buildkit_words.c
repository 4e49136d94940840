// What the builder says of a failure, in BuildKit's words by BuildKit's door: clients, and people's scripts, look for them.
#include "api_private.h"

static int command_failed(const char *said, int64_t code, struct err *err)
{
    static const char head[] = "The command '", tail[] = "' returned a non-zero code: ";
    const char *end = strstr(said, tail);
    if (!str_starts(said, head) || !end)
        return -1;
    _cleanup_free_ char *command = mem_strndup(said + strlen(head), (size_t)(end - said) - strlen(head));
    _cleanup_buf_ struct buf quoted = BUF_INIT(4 * ERR_MESSAGE_SIZE);
    buf_add_quoted(&quoted, command);
    return err_set(err, err->class, "process %s did not complete successfully: exit code: %lld", buf_text(&quoted), (long long)code);
}

static int file_missing(const char *said, struct err *err)
{
    static const char head[] = "file not found in build context or excluded by .dockerignore: stat ", tail[] = ": file does not exist";
    const char *end = strstr(said, tail);
    if (!str_starts(said, head) || !end)
        return err_set(err, err->class, "%s", said);
    const char *path = said + strlen(head);
    return err_set(err, err->class, "failed to compute cache key: failed to calculate checksum of ref: \"/%.*s\": not found", (int)(end - path), path);
}

int buildkit_words(int64_t exit_code, struct err *err)
{
    static const char *const names[] = { "COPY failed: ", "ADD failed: " };
    _cleanup_free_ char *said = mem_strdup(err->message);
    if (exit_code)
        return command_failed(said, exit_code, err);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (str_starts(said, names[i]))
            return file_missing(said + strlen(names[i]), err);
    return -1;
}
