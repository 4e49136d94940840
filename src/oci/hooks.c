#include "oci/oci_private.h"

static char *const nothing[] = { NULL };

static void convert(const struct json_list *list, char *const *environment, struct arena *arena, struct config_hook **out, size_t *len)
{
    const struct oci_hook *hooks = list->items;
    *out = arena_alloc(arena, (list->len + 1) * sizeof(**out));
    *len = list->len;
    for (size_t i = 0; i < list->len; i++) {
        char **only_path = arena_alloc(arena, 2 * sizeof(char *));
        only_path[0] = hooks[i].path;
        (*out)[i] = (struct config_hook){ .path = hooks[i].path ? hooks[i].path : "", .argv = hooks[i].args.len ? hooks[i].args.items : only_path,
                                          .envp = hooks[i].env.len ? hooks[i].env.items : environment,
                                          .timeout_s = hooks[i].timeout };
    }
}

void hooks_convert(const struct json_list *list, struct arena *arena, struct config_hook **out, size_t *len)
{
    convert(list, nothing, arena, out, len);
}

int hooks_run(struct container *container, const struct json_list *list, const char *kind, enum status status, struct err *err)
{
    struct config_hook *hooks;
    size_t len;
    if (!list->len)
        return 0;
    convert(list, environ, &container->arena, &hooks, &len);
    _cleanup_json_ json_t *state = container_state(container, status);
    _cleanup_free_ char *text = json_text(state);
    for (size_t i = 0; i < len; i++)
        if (config_hook_run(&hooks[i], text, strlen(text), err) < 0)
            return err_wrap(err, "error running %s hook #%zu", kind, i);
    return 0;
}
