// Layer writers by hand, for bench/layer: `erofs IMAGE RECIPE` and `unpack FOLDER` read a layer tar from their input, `tar IMAGE
// RECIPE` writes it to its output, `tar-hash IMAGE RECIPE` its digest.
#include <fcntl.h>

#include "base/fd.h"
#include "base/file.h"
#include "layer/layer.h"

static ssize_t input(void *context, void *data, size_t size, struct err *err)
{
    ssize_t got = read(STDIN_FILENO, data, size);
    return got >= 0 ? got : err_set(err, ERR_INTERNAL, "input: read failed");
}

static int new_file(const char *path)
{
    return open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

static int write_erofs(char **argv, struct err *err)
{
    const struct layer_erofs_options options = { 0 };
    struct layer_erofs_result result;
    if (layer_erofs_write(input, NULL, new_file(argv[2]), argv[3] ? new_file(argv[3]) : -1, &options, &result, err) < 0)
        return -1;
    printf("%s %llu\n", result.diff_id, (unsigned long long)result.image_size);
    return 0;
}

static int write_tar(char **argv, struct err *err)
{
    static char data[1 << 18];
    struct layer_recipe *recipe;
    ssize_t got;
    if (layer_recipe_open(open(argv[3], O_RDONLY | O_CLOEXEC), open(argv[2], O_RDONLY | O_CLOEXEC), &recipe, err) < 0)
        return -1;
    struct layer_digest *digest = str_eq(argv[1], "tar-hash") ? layer_digest_new() : NULL;
    while ((got = layer_recipe_read(recipe, data, sizeof(data), err)) > 0)
        if (digest)
            layer_digest_add(digest, data, (size_t)got);
        else if (fd_write_full(STDOUT_FILENO, data, (size_t)got, err) < 0)
            return -1;
    if (got < 0 || !digest)
        return (int)got;
    char text[72];
    layer_digest_end(digest, text);
    return str_eq(text, layer_recipe_info(recipe).diff_id) ? puts(text) < 0 : err_set(err, ERR_INTERNAL, "another tar came back");
}

static int unpack(char **argv, struct err *err)
{
    struct layer_result result;
    if (layer_unpack(input, NULL, NULL, file_open_dir(AT_FDCWD, argv[2], err), NULL, &result, err) < 0)
        return -1;
    printf("%s\n", result.diff_id);
    return 0;
}

// Of this program alone: what getrusage() tells counts from before the exec.
static void print_memory(void)
{
    _cleanup_buf_ struct buf status = BUF_INIT(1 << 16);
    const char *most = file_read_at(AT_FDCWD, "/proc/self/status", &status, NULL) == 0 ? strstr(buf_text(&status), "VmHWM:") : NULL;
    fprintf(stderr, "%ld kB at most\n", most ? strtol(most + strlen("VmHWM:"), NULL, 10) : 0);
}

int main(int argc, char **argv)
{
    struct err err = { 0 };
    int done = -1;
    if (argc >= 3 && str_eq(argv[1], "erofs"))
        done = write_erofs(argv, &err);
    else if (argc == 4 && str_starts(argv[1], "tar"))
        done = write_tar(argv, &err);
    else if (argc == 3 && str_eq(argv[1], "unpack"))
        done = unpack(argv, &err);
    print_memory();
    if (done < 0)
        fprintf(stderr, "layer_writer: %s\n", err.message);
    return done < 0;
}
