// From a bundle to a state folder: what create, run and restore begin with.
#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/file.h"
#include "oci/oci_private.h"

int bundle_enter(struct call *call, char bundle[PATH_MAX], struct err *err)
{
    const char *given = args_text(&call->args, "bundle");
    if (!str_empty(given) && chdir(given) < 0)
        return err_errno(err, errno, "chdir %s", given);
    return getcwd(bundle, PATH_MAX) ? 0 : err_errno(err, errno, "getcwd");
}

char *bundle_absolute(struct call *call, const char *path)
{
    char where[PATH_MAX];
    if (str_empty(path) || path[0] == '/' || !getcwd(where, sizeof(where)))
        return path ? arena_strdup(&call->arena, path) : NULL;
    return arena_printf(&call->arena, "%s/%s", where, path);
}

int bundle_read(struct call *call, struct container *container, struct err *err)
{
    const char *given = args_text(&call->args, "config"), *name = str_empty(given) ? "config.json" : given;
    if (document_read(name, &container->text, &container->document, err) < 0)
        return -1;
    if (oci_config_decode(container->document, &container->config, &container->arena, err) < 0)
        return err_wrap(err, "%s", name);
    config_default_maps(&container->config, &container->arena);
    return config_check(&container->config, err) < 0 ? -1 : config_check_spec(container->document, &container->config, err);
}

// What the process gets as its standard streams, in the kernel's words ("pipe:[1234]"): a restored one finds its pipes by them.
static void read_stdio(struct container *container)
{
    for (int fd = 0; fd < STDIO_LEN; fd++) {
        char link[32], target[PATH_MAX];
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t size = readlink(link, target, sizeof(target));
        container->stdio[fd] = arena_strndup(&container->arena, target, (size_t)MAX_OF(size, (ssize_t)0));
    }
}

// In this order: what was asked for, then the names of everything that will be made.
int bundle_keep(struct call *call, struct container *container, const char *bundle, struct err *err)
{
    container->version = arena_strdup(&container->arena, str_empty(container->config.version) ? SPEC_VERSION : container->config.version);
    container->bundle = arena_strdup(&container->arena, bundle);
    container->created_ns = clock_wall_ns();
    container->rootless = call->rootless || call->inside_users;
    container->rootfs = config_rootfs(&container->config, bundle, &container->arena, err);
    if (!container->rootfs || cgroups_name(call, container, err) < 0)
        return -1;
    read_stdio(container);
    if (file_write_at(container->dir_fd, "config.json", buf_text(&container->text), container->text.size, 0600, false, err) < 0)
        return -1;
    return container_save(container, err);
}
