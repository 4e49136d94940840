// Layer writers by hand, for bench/layer: `erofs IMAGE RECIPE` and `unpack FOLDER` read a layer tar from their input, `tar IMAGE
// RECIPE` writes it to its output.
#include <fcntl.h>
#include <sys/resource.h>

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
    while ((got = layer_recipe_read(recipe, data, sizeof(data), err)) > 0)
        if (fd_write_full(STDOUT_FILENO, data, (size_t)got, err) < 0)
            return -1;
    return (int)got;
}

static int unpack(char **argv, struct err *err)
{
    struct layer_result result;
    if (layer_unpack(input, NULL, file_open_dir(AT_FDCWD, argv[2], err), &result, err) < 0)
        return -1;
    printf("%s\n", result.diff_id);
    return 0;
}

int main(int argc, char **argv)
{
    struct err err = { 0 };
    int done = -1;
    if (argc >= 3 && str_eq(argv[1], "erofs"))
        done = write_erofs(argv, &err);
    else if (argc == 4 && str_eq(argv[1], "tar"))
        done = write_tar(argv, &err);
    else if (argc == 3 && str_eq(argv[1], "unpack"))
        done = unpack(argv, &err);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    fprintf(stderr, "%ld kB at most\n", used.ru_maxrss);
    if (done < 0)
        fprintf(stderr, "layer_writer: %s\n", err.message);
    return done < 0;
}
