// rooms: layer kernel base | libarchive nettle libisal libzstd
// A layer tar, plain or compressed, into a folder of its own. Whatever the bytes say: nothing may appear beside it.
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"
#include "layer/layer.h"

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

static void check_beside(int outer)
{
    _cleanup_dir_ DIR *dir = fdopendir(fd_dup(outer, NULL));
    rewinddir(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.' && !str_eq(entry->d_name, "layer"))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[] = "/tmp/berth-fuzz-XXXXXX";
    struct input input = { data, size };
    struct layer_result result;
    if (!mkdtemp(path))
        abort();
    int outer = file_open_dir(AT_FDCWD, path, NULL);
    mkdirat(outer, "layer", 0755);
    int layer = file_open_dir(outer, "layer", NULL);
    if (layer_unpack(input_read, &input, NULL, layer, NULL, &result, NULL) == 0)
        layer_result_done(&result);
    check_beside(outer);
    fd_close(layer);
    fd_close(outer);
    if (file_remove_tree(AT_FDCWD, path, NULL) < 0)
        abort();
    return 0;
}
