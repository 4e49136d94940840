#include "base/num.h"
#include "volume_private.h"

static const char *const known[] = { "type", "device", "o", "size" };

static bool is_known(const char *key)
{
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (str_eq(key, known[i]))
            return true;
    return false;
}

int volume_options_check(const struct kvs *options, struct err *err)
{
    static const struct {
        const char *key, *needs;
    } pairs[] = { { "device", "type" }, { "type", "device" }, { "o", "device" }, { "o", "type" } };
    for (size_t i = 0; i < options->len; i++)
        if (!is_known(options->items[i].key))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid option: \"%.100s\"", options->items[i].key);
    const char *size = kvs_get(options, "size");
    if (size && !str_eq(size, "0"))
        return err_set(err, ERR_INVALID_ARGUMENT, "quota size requested but no quota support");
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
        if (kvs_get(options, pairs[i].key) && !kvs_get(options, pairs[i].needs))
            return err_set(err, ERR_INVALID_ARGUMENT, "missing required option: \"%s\"", pairs[i].needs);
    return 0;
}

bool volume_needs_mount(const struct volume *volume)
{
    return kvs_get(&volume->options, "device") != NULL;
}
