// A list of strings, NULL-terminated as exec wants it, with its length beside it. The strings and the array belong
// to whoever made it: an arena (arena_*), or the list itself (strv_add and strv_done).
#ifndef BASE_STRV_H
#define BASE_STRV_H

#include "base/arena.h"

struct strv {
    char **items; // NULL when empty, else items[len] == NULL
    size_t len;
    size_t capacity; // slots that strv_push_arena() may use; 0 when somebody else sized the array
};

struct kv {
    char *key;
    char *value;
};

struct kvs {
    struct kv *items;
    size_t len;
};

#define _cleanup_strv_ _cleanup_(strv_done)

void strv_done(struct strv *list); // frees the strings and the array
void strv_add(struct strv *list, const char *s); // copies
void strv_addf(struct strv *list, const char *fmt, ...) _printf_(2, 3);
void strv_push_arena(struct strv *list, struct arena *arena, const char *s); // copies into the arena
bool strv_has(const struct strv *list, const char *s);
// Environment rules: the entry "KEY=..." of `list`, or NULL; value part only.
const char *strv_env(const struct strv *list, const char *key);
// Sets KEY in a list that lives in `arena`: "KEY=value" replaces or appends, "KEY" alone removes.
void strv_env_set(struct strv *list, struct arena *arena, const char *assignment);
const char *kvs_get(const struct kvs *map, const char *key);

#endif
