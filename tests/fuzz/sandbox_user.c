// rooms: sandbox spec json kernel base | jansson
// A user's name and an image's etc/passwd and etc/group, apart by NUL bytes: whatever they say, ids and groups stay within
// Docker's bounds, the home is a path, and a refusal is one that a client understands.
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/file.h"
#include "sandbox/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put(int root, const char *path, struct slice text)
{
    if (text.data && file_write_at(root, path, text.data, text.size, 0644, false, NULL) < 0)
        abort();
}

static void check_found(const struct user_found *found)
{
    if (found->uid > INT32_MAX || found->gid > INT32_MAX || found->group_len > USER_GROUPS_MAX || found->home[0] != '/' ||
        !memchr(found->home, 0, sizeof(found->home)))
        abort();
    for (size_t i = 0; i < found->group_len; i++)
        for (size_t k = 0; k < i; k++)
            if (found->groups[i] == found->groups[k])
                abort();
}

static void look(int root, struct slice name, struct slice group)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    char *extra = arena_strndup(&arena, group.data, group.size);
    const struct user_request request = { .name = arena_strndup(&arena, name.data, name.size), .groups = &extra,
                                          .group_len = 1 };
    struct user_found found;
    struct err err = { 0 };
    if (user_find(root, &request, &found, &err) == 0)
        check_found(&found);
    else if (err.class != ERR_NOT_FOUND && err.class != ERR_INVALID_ARGUMENT && err.class != ERR_RESOURCE_EXHAUSTED)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[] = "/tmp/berth-fuzz-XXXXXX";
    struct slice rest = { (const char *)data, size }, name = { "", 0 }, passwd = { 0 };
    if (!mkdtemp(path))
        abort();
    int root = file_open_dir(AT_FDCWD, path, NULL);
    mkdirat(root, "etc", 0755);
    slice_cut(&rest, 0, &name);
    if (slice_cut(&rest, 0, &passwd))
        put(root, "etc/passwd", passwd);
    put(root, "etc/group", rest);
    struct slice user = name, group;
    slice_cut(&user, ':', &group); // the same word as --group-add
    look(root, name, group);
    fd_close(root);
    if (file_remove_tree(AT_FDCWD, path, NULL) < 0)
        abort();
    return 0;
}
