// rooms: oci criu sandbox task spec kernel json base | jansson
// A config.json from anywhere: read, checked, its limits, hooks and cgroup made ready; nothing is opened or made.
#include <stdint.h>

#include "oci/oci_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(struct container *container)
{
    struct oci_config *config = &container->config;
    struct cgroup_limits limits;
    struct config_hook *hooks;
    size_t len;
    const char *path;
    struct err err;
    config_default_maps(config, &container->arena);
    if (config_check(config, &err) < 0)
        return;
    cgroups_limits(container, &container->arena, &limits, &err);
    cgroups_path(config->linux_section->cgroups_path, "id", &container->arena, &path, &err);
    if (config->hooks)
        hooks_convert(&config->hooks->create_container, &container->arena, &hooks, &len);
    const struct oci_mount *mounts = config->mounts.items;
    for (size_t i = 0; i < config->mounts.len; i++) {
        struct config_mount mount = { .idmap_fd = -1 };
        bool remount = false, bind = false;
        uint64_t propagation;
        const char *option;
        for (size_t o = 0; o < mounts[i].options.len; o++)
            mount_word(mounts[i].options.items[o], &mount, &propagation, &remount, &bind, &option);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct container container = CONTAINER_NONE;
    struct err err;
    if (json_parse((const char *)data, size, &container.document, &err) == 0 &&
        oci_config_decode(container.document, &container.config, &container.arena, &err) == 0)
        use(&container);
    container_done(&container);
    return 0;
}
