// --platform of the requests that want it as a document: {"architecture":"arm64","os":"linux","variant":"v8"}.
#include <ctype.h>

#include "client/client_private.h"

static bool is_word(struct slice part)
{
    for (size_t i = 0; i < part.size; i++)
        if (!isalnum((unsigned char)part.data[i]) && !strchr("_.-", part.data[i]))
            return false;
    return part.size > 0;
}

static const char *arch_name(const char *text)
{
    return str_eq(text, "x86_64") || str_eq(text, "x86-64") ? "amd64" : str_eq(text, "aarch64") ? "arm64" : text;
}

static bool is_system(const char *text)
{
    static const char *const systems[] = { "linux", "windows", "darwin", "freebsd" };
    for (size_t i = 0; i < ARRAY_LEN(systems); i++)
        if (str_eq(text, systems[i]))
            return true;
    return false;
}

// "linux/arm64/v8", "linux/arm64", or the processor alone.
static json_t *parse(const char *text)
{
    char words[3][32] = { "", "", "" };
    struct slice part, rest = slice_of(text);
    size_t len = 0;
    for (; slice_cut(&rest, '/', &part); len++) {
        if (len == 3 || !is_word(part) || part.size >= sizeof(words[0]))
            return NULL;
        for (size_t i = 0; i < part.size; i++)
            words[len][i] = (char)tolower((unsigned char)part.data[i]);
    }
    if (!len || (len == 1 && is_system(words[0])))
        return NULL;
    json_t *platform = json_pack("{s:s, s:s}", "architecture", arch_name(words[len > 1]), "os", len > 1 ? words[0] : "linux");
    if (len == 3)
        json_object_set_new(platform, "variant", json_string(words[2]));
    return platform;
}

int put_platforms(struct call *call, const char *key, int since, struct buf *path, struct err *err)
{
    const struct strv *texts = flag_texts(&call->flags, "platform");
    for (size_t i = 0; i < texts->len; i++) {
        if (!*texts->items[i])
            continue;
        _cleanup_json_ json_t *platform = parse(texts->items[i]);
        if (!platform)
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid platform: \"%s\": OS/ARCHITECTURE[/VARIANT] is one", texts->items[i]);
        int version = api_version(call->client, err);
        if (version < 0)
            return -1;
        if (version < since)
            return err_set(err, ERR_NOT_IMPLEMENTED, "\"--platform\" requires API version 1.%d, but the Docker daemon API version is 1.%d", since, version);
        _cleanup_free_ char *text = json_text(platform);
        query_add(path, key, text);
    }
    return 0;
}
