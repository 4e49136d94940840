// Id maps of user namespaces: written by us where we may, else by newuidmap and newgidmap.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "base/process.h"
#include "kernel/users.h"
#include "oci/oci_private.h"

static int check_maps(const struct json_list *list, const char *what, struct err *err)
{
    const struct oci_id_mapping *maps = list->items;
    if (list->len > USERS_RANGES_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "linux.%s: more than %d", what, USERS_RANGES_MAX);
    for (size_t i = 0; i < list->len; i++)
        if (maps[i].container_id < 0 || maps[i].host_id < 0 || maps[i].size <= 0 || maps[i].container_id > UINT32_MAX ||
            maps[i].host_id > UINT32_MAX || maps[i].size > UINT32_MAX)
            return err_set(err, ERR_INVALID_ARGUMENT, "linux.%s[%zu] is out of range", what, i);
    return 0;
}

static void map_text(const struct json_list *list, struct buf *out)
{
    const struct oci_id_mapping *maps = list->items;
    for (size_t i = 0; i < list->len; i++)
        buf_addf(out, "%lld %lld %lld\n", (long long)maps[i].container_id, (long long)maps[i].host_id, (long long)maps[i].size);
}

static int put(pid_t pid, const char *file, const char *text, struct err *err)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    return file_put(AT_FDCWD, path, text, err);
}

static int write_map(pid_t pid, const char *file, const struct json_list *list, struct err *err)
{
    struct buf text = BUF_INIT(64 << 10);
    map_text(list, &text);
    int result = put(pid, file, buf_text(&text), err);
    buf_done(&text);
    return result;
}

// newuidmap PID inside outside len ...
static int run_tool(const char *tool, pid_t pid, const struct json_list *list, struct err *err)
{
    const struct oci_id_mapping *maps = list->items;
    struct arena arena = ARENA_INIT;
    struct strv argv = { 0 };
    struct buf said = BUF_INIT(4096);
    strv_push_arena(&argv, &arena, tool);
    strv_push_arena(&argv, &arena, arena_printf(&arena, "%d", (int)pid));
    for (size_t i = 0; i < list->len; i++) {
        const int64_t numbers[] = { maps[i].container_id, maps[i].host_id, maps[i].size };
        for (size_t n = 0; n < ARRAY_LEN(numbers); n++)
            strv_push_arena(&argv, &arena, arena_printf(&arena, "%lld", (long long)numbers[n]));
    }
    int result = process_run(argv.items, NULL, &said, err);
    buf_done(&said);
    arena_done(&arena);
    return result;
}

static bool is_own(const struct json_list *list, int64_t id)
{
    const struct oci_id_mapping *maps = list->items;
    return list->len == 1 && maps[0].host_id == id && maps[0].size == 1;
}

static int write_gids(pid_t pid, const struct json_list *gids, bool rootless, struct err *err)
{
    if (!rootless)
        return write_map(pid, "gid_map", gids, err);
    if (!is_own(gids, getegid()))
        return run_tool("newgidmap", pid, gids, err);
    // Without rights a group map is taken only from who has given up setgroups().
    if (put(pid, "setgroups", "deny", err) < 0)
        return -1;
    return write_map(pid, "gid_map", gids, err);
}

int idmap_write(pid_t pid, const struct json_list *uids, const struct json_list *gids, bool rootless, struct err *err)
{
    if (check_maps(uids, "uidMappings", err) < 0 || check_maps(gids, "gidMappings", err) < 0)
        return -1;
    if (write_gids(pid, gids, rootless, err) < 0)
        return err_wrap(err, "gid map");
    int result = rootless && !is_own(uids, geteuid()) ? run_tool("newuidmap", pid, uids, err) : write_map(pid, "uid_map", uids, err);
    return result < 0 ? err_wrap(err, "uid map") : 0;
}

static void read_map(const struct json_list *list, struct users_map *out)
{
    const struct oci_id_mapping *maps = list->items;
    out->len = list->len;
    for (size_t i = 0; i < list->len; i++)
        out->ranges[i] = (struct users_range){ (uint32_t)maps[i].container_id, (uint32_t)maps[i].host_id, (uint32_t)maps[i].size };
}

int idmap_namespace(const struct json_list *uids, const struct json_list *gids, struct err *err)
{
    struct users_map uid_map, gid_map;
    if (check_maps(uids, "uidMappings", err) < 0 || check_maps(gids, "gidMappings", err) < 0)
        return -1;
    read_map(uids, &uid_map);
    read_map(gids, &gid_map);
    return users_make(&uid_map, &gid_map, err);
}
