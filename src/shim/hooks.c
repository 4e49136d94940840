#include "shim/hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#define DOCUMENT_MAX (16 << 20)
#define VERSION "1.2.0" // of the state's form

// ---- what a hook is told --------------------------------------------------------------------------------------------

static int find_bundle(const struct shim *shim, struct arena *arena, char **out, struct err *err)
{
    char link[32], folder[PATH_MAX];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", shim->container_fd);
    ssize_t size = readlink(link, folder, sizeof(folder) - 1);
    if (size < 0)
        return err_errno(err, errno, "the container's folder");
    *out = arena_printf(arena, "%.*s/bundle", (int)size, folder);
    return 0;
}

static char *quoted(struct arena *arena, const char *text)
{
    _cleanup_json_ json_t *value = json_new_text(text);
    _cleanup_free_ char *json = json_dumps(value, JSON_ENCODE_ANY);
    return arena_strdup(arena, json);
}

static void describe(const struct task_document *document, const char *bundle, struct arena *arena, struct sandbox_config *out)
{
    out->state_head = arena_printf(arena, "{\"ociVersion\":\"" VERSION "\",\"id\":\"%s\",\"status\":\"", document->id);
    out->state_tail = arena_printf(arena, ",\"bundle\":%s,\"annotations\":{}}", quoted(arena, bundle));
}

static int make_bundle(const struct shim *shim, const struct task_document *document, const char *rootfs, struct err *err)
{
    _cleanup_json_ json_t *config = json_pack("{s:s, s:{s:o, s:b}, s:o, s:o, s:o}", "ociVersion", VERSION, "root", "path", json_new_text(rootfs), "readonly",
                                              document->rootfs.read_only, "hostname", json_new_text(document->hostname), "process",
                                              json_encode(&oci_process_table, &document->process), "hooks",
                                              json_encode(&oci_hooks_table, document->hooks));
    _cleanup_free_ char *text = json_text(config);
    if (file_mkdirs(shim->container_fd, "bundle/rootfs", 0700, err) < 0)
        return -1;
    return file_write_at(shim->container_fd, "bundle/config.json", text, strlen(text), 0600, false, err);
}

// ---- running them ---------------------------------------------------------------------------------------------------

static struct config_hook *convert(const struct json_list *list, struct arena *arena)
{
    static char *const nothing[] = { NULL };
    const struct oci_hook *from = list->items;
    struct config_hook *out = arena_alloc(arena, (list->len + 1) * sizeof(*out));
    for (size_t i = 0; i < list->len; i++) {
        struct strv alone = { 0 };
        strv_push_arena(&alone, arena, from[i].path);
        out[i] = (struct config_hook){ .path = from[i].path, .argv = from[i].args.len ? from[i].args.items : alone.items,
                                       .envp = from[i].env.len ? from[i].env.items : nothing,
                                       .timeout_s = from[i].timeout > 0 ? MIN_OF(from[i].timeout, (int64_t)HOOKS_TIME_S) : HOOKS_TIME_S };
    }
    return out;
}

static int run_all(const struct json_list *list, const char *kind, const struct sandbox_config *said, const char *status, pid_t pid, struct arena *arena,
                   struct err *err)
{
    const struct config_hook *hooks = convert(list, arena);
    const char *state = arena_printf(arena, "%s%s\",\"pid\":%d%s", said->state_head, status, (int)pid, said->state_tail);
    for (size_t i = 0; i < list->len; i++)
        if (config_hook_run(&hooks[i], state, strlen(state), err) < 0)
            return err_wrap(err, "error running %s hook #%zu", kind, i);
    return 0;
}

static int mounted(enum sandbox_stage stage, pid_t pid, int fd, void *context, struct err *err)
{
    const struct hooks *hooks = context;
    const struct oci_hooks *lists = hooks->document->hooks;
    if (stage != SANDBOX_STAGE_MOUNTED)
        return 0;
    if (run_all(&lists->prestart, "prestart", &hooks->config, "creating", pid, hooks->arena, err) < 0)
        return -1;
    return run_all(&lists->create_runtime, "createRuntime", &hooks->config, "creating", pid, hooks->arena, err);
}

int hooks_prepare(struct shim *shim, const struct task_document *document, struct arena *arena, struct hooks *out, struct err *err)
{
    const struct oci_hooks *lists = document->hooks;
    struct sandbox_config *config = &out->config;
    char *bundle;
    *out = (struct hooks){ .shim = shim, .document = document, .arena = arena };
    if (find_bundle(shim, arena, &bundle, err) < 0)
        return -1;
    config->rootfs_path = arena_printf(arena, "%s/rootfs", bundle);
    describe(document, bundle, arena, config);
    config->create_container = convert(&lists->create_container, arena);
    config->create_container_len = lists->create_container.len;
    config->start_container = convert(&lists->start_container, arena);
    config->start_container_len = lists->start_container.len;
    config->runtime_hooks = lists->prestart.len || lists->create_runtime.len;
    config->at_stage = mounted;
    config->stage_context = out;
    return make_bundle(shim, document, config->rootfs_path, err);
}

// ---- later ----------------------------------------------------------------------------------------------------------

// The request that brought the document is long gone; it stands in the container's folder.
static void run_later(struct shim *shim, bool stopped)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT(DOCUMENT_MAX);
    struct task_document document;
    struct sandbox_config said = { 0 };
    char *bundle;
    if (!shim->hooked || file_read_at(shim->container_fd, "task.json", &text, NULL) < 0 || find_bundle(shim, &arena, &bundle, NULL) < 0 ||
        json_decode_text(&task_document_table, buf_text(&text), text.size, &document, &arena, NULL, NULL) < 0 || !document.hooks)
        return;
    describe(&document, bundle, &arena, &said);
    const struct json_list *list = stopped ? &document.hooks->poststop : &document.hooks->poststart;
    run_all(list, stopped ? "poststop" : "poststart", &said, stopped ? "stopped" : "running", stopped ? 0 : shim->init->pid, &arena, NULL);
}

void hooks_started(struct shim *shim)
{
    run_later(shim, false);
}

void hooks_stopped(struct shim *shim)
{
    run_later(shim, true);
}
