// The keys that leave an attached terminal without ending its process. A started sequence is held back; when it breaks,
// what can no longer be part of it is passed on and the rest is kept as the possible start of another.
#include "shim/shim_private.h"

static int parse_key(struct slice key, uint8_t *out)
{
    if (key.size == 1)
        *out = (uint8_t)key.data[0];
    else if (slice_eq(key, "DEL"))
        *out = 127;
    else if (key.size == 6 && slice_starts(key, "ctrl-") && key.data[5] >= 'a' && key.data[5] <= 'z')
        *out = (uint8_t)(key.data[5] - 'a' + 1);
    else if (key.size == 6 && slice_starts(key, "ctrl-") && key.data[5] && strchr("@[\\]^_", key.data[5]))
        *out = key.data[5] & 0x1f;
    else
        return -1;
    return 0;
}

int detach_keys_parse(const char *text, struct detach_keys *out, struct err *err)
{
    struct detach_keys keys = { .len = 0 };
    struct slice rest = slice_of(str_empty(text) ? NULL : text), key;
    while (slice_cut(&rest, ',', &key)) {
        if (keys.len == DETACH_KEYS_MAX)
            return err_set(err, ERR_INVALID_ARGUMENT, "more than %d detach keys", DETACH_KEYS_MAX);
        if (parse_key(key, &keys.keys[keys.len++]) < 0)
            return err_set(err, ERR_INVALID_ARGUMENT, "Unknown character: '%.*s'", (int)MIN_OF(key.size, 64u), key.data);
    }
    *out = keys;
    return 0;
}

// The longest start of the sequence that the held bytes, without their first, end with.
static size_t shorter_match(const struct detach_keys *keys)
{
    for (size_t len = keys->matched - 1; len; len--) {
        if (memcmp(keys->keys, keys->keys + keys->matched - len, len) == 0)
            return len;
    }
    return 0;
}

bool detach_keys_filter(struct detach_keys *keys, const uint8_t *in, size_t size, uint8_t *out, size_t *out_size)
{
    size_t used = 0;
    for (size_t i = 0; i < size; i++) {
        while (keys->matched && keys->keys[keys->matched] != in[i]) {
            size_t kept = shorter_match(keys);
            memcpy(out + used, keys->keys, keys->matched - kept);
            used += keys->matched - kept;
            keys->matched = kept;
        }
        if (!keys->len || keys->keys[keys->matched] != in[i]) {
            out[used++] = in[i];
            continue;
        }
        if (++keys->matched == keys->len) {
            keys->matched = 0;
            *out_size = used;
            return true;
        }
    }
    *out_size = used;
    return false;
}
