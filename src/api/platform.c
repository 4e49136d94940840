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

int platform_check(struct call *call, const char *key, const char *name, const struct image *image, struct err *err)
{
    struct strv asked = { 0 };
    httpd_query_all(call->request, key, &asked);
    for (size_t i = 0; i < asked.len; i++) {
        struct platform platform;
        if (str_empty(asked.items[i]))
            continue;
        if (parse(asked.items[i], call->arena, &platform, err) < 0)
            return -1;
        const struct oci_image_config *config = &image->config;
        if (!fits(&platform, config->os, config->architecture, config->variant))
            return err_set(err, ERR_NOT_FOUND, "image with reference %.200s was found but its platform (%s) does not match the specified platform (%.100s)",
                           name, shown(call->arena, config->os, config->architecture, config->variant),
                           shown(call->arena, platform.os, platform.architecture, platform.variant));
    }
    return 0;
}

int platform_check_own(struct call *call, const char *key, struct err *err)
{
    struct strv asked = { 0 };
    httpd_query_all(call->request, key, &asked);
    for (size_t i = 0; i < asked.len; i++) {
        struct platform platform;
        if (str_empty(asked.items[i]))
            continue;
        if (parse(asked.items[i], call->arena, &platform, err) < 0)
            return -1;
        if (!fits(&platform, "linux", PLATFORM_ARCHITECTURE, ""))
            return err_set(err, ERR_NOT_IMPLEMENTED, "%s: %.100s is not supported: images of this machine's platform alone are loaded", key,
                           shown(call->arena, platform.os, platform.architecture, platform.variant));
    }
    return 0;
}
