// rooms: archive json kernel base | jansson
// A tar that a client puts into a container's folder. Whatever the bytes say: nothing may appear beside the tree.
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "archive/archive.h"
#include "base/file.h"

struct input {
    const uint8_t *data;
    size_t size;
};

static ssize_t input_read(void *context, void *data, size_t size, struct err *err)
{
    struct input *input = context;
    size_t got = MIN_OF(size, input->size);
    if (got)
        memcpy(data, input->data, got);
    input->data += got;
    input->size -= got;
    return (ssize_t)got;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[] = "/tmp/berth-fuzz-XXXXXX";
    const struct archive_put options = { .keep_kind = size & 1 };
    struct input input = { data, size };
    _cleanup_strv_ struct strv beside = { 0 };
    if (!mkdtemp(path))
        abort();
    int outer = file_open_dir(AT_FDCWD, path, NULL);
    mkdirat(outer, "tree", 0755);
    int tree = file_open_dir(outer, "tree", NULL);
    mkdirat(tree, "into", 0755);
    archive_put(tree, "/into", &options, input_read, &input, NULL);
    if (file_list_names(outer, ".", &beside, NULL) < 0 || beside.len != 1)
        abort();
    fd_close(tree);
    fd_close(outer);
    if (file_remove_tree(AT_FDCWD, path, NULL) < 0)
        abort();
    return 0;
}
