// A create body is the client's, and Go's clients may spell a member in any case.
#include <strings.h>

#include "engine_private.h"

json_t *config_member(json_t *object, const char *name)
{
    const char *key;
    json_t *value;
    json_object_foreach (object, key, value)
        if (strcasecmp(key, name) == 0)
            return value;
    return NULL;
}

void config_put(json_t *object, const char *name, json_t *value)
{
    const char *key;
    json_t *ignored;
    void *next;
    json_object_foreach_safe (object, next, key, ignored)
        if (strcasecmp(key, name) == 0)
            json_object_del(object, key);
    json_object_set_new(object, name, value);
}
