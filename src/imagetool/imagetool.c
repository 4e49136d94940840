#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "imagetool_private.h"
#include "base/file.h"

int visit_begin(struct visit *visit, const struct imagetool *tool, struct err *err)
{
    const char *root = tool->root ? tool->root : IMAGETOOL_ROOT;
    *visit = (struct visit){ .root_fd = -1 };
    if (geteuid() != 0)
        return err_set(err, ERR_PERMISSION_DENIED, "a data root is root's: must be run by root");
    if (file_mkdirs(AT_FDCWD, root, 0710, err) < 0 || (visit->root_fd = file_open_dir(AT_FDCWD, root, err)) < 0)
        return err_wrap(err, "--root");
    _cleanup_free_ char *database = mem_printf("%s/berth.db", root);
    const struct image_store_config config = { .root_fd = visit->root_fd, .state_fd = -1, .driver = tool->driver, .keep_compressed = tool->keep_compressed };
    if (store_open(database, &visit->store, err) < 0 || image_store_open(visit->store, &config, &visit->images, err) < 0) {
        visit_end(visit);
        return err_wrap(err, "%s", root);
    }
    return 0;
}

void visit_end(struct visit *visit)
{
    image_store_close(visit->images);
    store_close(visit->store);
    fd_close(visit->root_fd);
    arena_done(&visit->arena);
    *visit = (struct visit){ .root_fd = -1 };
}

static int take_row(void *context, const struct store_row *row, struct err *err)
{
    snprintf(context, 13, "%s", store_text(row, 0));
    return 0;
}

bool visit_in_use(void *context, const char *image_id, char by[13], bool *running)
{
    struct visit *visit = context;
    char table[13] = "";
    *by = '\0';
    // A root that no daemon has had has no containers, nor a table for them. Whoever can't be asked may have some.
    if (store_query(visit->store, NULL, take_row, table, "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'containers'", "") < 0)
        return *running = true;
    if (*table && store_query(visit->store, NULL, take_row, by, "SELECT id FROM containers WHERE image_id = ? LIMIT 1", "t", image_id) < 0)
        return *running = true;
    return *running = *by != '\0';
}

// ---- removing -------------------------------------------------------------------------------------------------------

static int remove_one(struct visit *visit, const struct imagetool *tool, const char *name, struct err *err)
{
    struct image_removed removed = { 0 };
    if (image_remove(visit->images, name, tool->force ? IMAGE_REMOVE_FORCE : 0, visit_in_use, visit, &visit->arena, &removed, err) < 0)
        return -1;
    for (size_t i = 0; i < removed.untagged.len; i++)
        printf("Untagged: %s\n", removed.untagged.items[i]);
    for (size_t i = 0; i < removed.deleted.len; i++)
        printf("Deleted: %s\n", removed.deleted.items[i]);
    return 0;
}

int imagetool_rm(const struct imagetool *tool, char **words, size_t len, struct err *err)
{
    _cleanup_visit_ struct visit visit;
    if (visit_begin(&visit, tool, err) < 0)
        return -1;
    for (size_t i = 0; i < len; i++)
        if (remove_one(&visit, tool, words[i], err) < 0)
            return -1;
    return 0;
}

int imagetool_gc(const struct imagetool *tool, char **words, size_t len, struct err *err)
{
    _cleanup_visit_ struct visit visit;
    if (visit_begin(&visit, tool, err) < 0 || image_collect(visit.images, visit_in_use, &visit, err) < 0)
        return -1;
    return image_store_collect(visit.images, err);
}
