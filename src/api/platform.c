// The platform that a client asks an image for. One image is of one platform here, so it is that one or not there.
#include "api_private.h"

struct platform {
    char *os, *architecture, *variant, *os_version;
    struct strv os_features;
};

static const struct json_field platform_fields[] = {
    JSON_FIELD("os", JSON_TEXT, struct platform, os),
    JSON_FIELD("architecture", JSON_TEXT, struct platform, architecture),
    JSON_FIELD("variant", JSON_TEXT, struct platform, variant),
    JSON_FIELD("os.version", JSON_TEXT, struct platform, os_version),
    JSON_FIELD("os.features", JSON_TEXTS, struct platform, os_features),
};
static const struct json_table platform_table = JSON_TABLE(struct platform, platform_fields);

static int parse(const char *text, struct arena *arena, struct platform *out, struct err *err)
{
    if (json_decode_text(&platform_table, text, strlen(text), out, arena, NULL, err) < 0)
        return err_wrap(err, "failed to parse platform");
    if (str_empty(out->os) || str_empty(out->architecture))
        return err_set(err, ERR_INVALID_ARGUMENT, "both OS and Architecture must be provided");
    return 0;
}

static char *shown(struct arena *arena, const char *os, const char *architecture, const char *variant)
{
    return arena_printf(arena, "%s/%s%s%s", os ? os : "", architecture ? architecture : "", str_empty(variant) ? "" : "/",
                        variant ? variant : "");
}

static bool fits(const struct platform *asked, const char *os, const char *architecture, const char *variant)
{
    return str_eq(asked->os, str_empty(os) ? "linux" : os) && str_eq(asked->architecture, architecture ? architecture : "") &&
           (str_empty(asked->variant) || str_eq(asked->variant, variant ? variant : ""));
}

// All that the client names; empty ones say nothing.
static int read_asked(struct call *call, const char *key, struct platform **out, size_t *len, struct err *err)
{
    struct strv asked = { 0 };
    httpd_query_all(call->request, key, &asked);
    *out = arena_alloc(call->arena, (asked.len + 1) * sizeof(**out));
    *len = 0;
    for (size_t i = 0; i < asked.len; i++)
        if (!str_empty(asked.items[i]) && parse(asked.items[i], call->arena, &(*out)[(*len)++], err) < 0)
            return -1;
    return 0;
}

int platform_check(struct call *call, const char *key, const char *name, const struct image *image, struct err *err)
{
    const struct oci_image_config *config = &image->config;
    struct platform *asked;
    size_t len;
    if (read_asked(call, key, &asked, &len, err) < 0)
        return -1;
    for (size_t i = 0; i < len; i++)
        if (!fits(&asked[i], config->os, config->architecture, config->variant))
            return err_set(err, ERR_NOT_FOUND, "image with reference %.200s was found but its platform (%s) does not match the specified platform (%.100s)",
                           name, shown(call->arena, config->os, config->architecture, config->variant),
                           shown(call->arena, asked[i].os, asked[i].architecture, asked[i].variant));
    return 0;
}

int platform_check_own(struct call *call, const char *key, struct err *err)
{
    struct platform *asked;
    size_t len;
    if (read_asked(call, key, &asked, &len, err) < 0)
        return -1;
    for (size_t i = 0; i < len; i++)
        if (!fits(&asked[i], "linux", PLATFORM_ARCHITECTURE, ""))
            return err_set(err, ERR_NOT_IMPLEMENTED, "%s: %.100s is not supported: images of this machine's platform alone are loaded", key,
                           shown(call->arena, asked[i].os, asked[i].architecture, asked[i].variant));
    return 0;
}
