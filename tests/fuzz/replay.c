// Feeds a fuzzer its corpus, and after each file a few mutations of it with a fixed seed: no search, but every finding that
// was ever kept in the corpus is tried in each `make check`. Usage: fuzz_<name> FOLDER-OR-FILE...
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define MUTATIONS 400 // of each file
#define SECONDS_MAX 5 // for all mutations together; the corpus itself is always fed whole
#define INPUT_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    uint64_t random;
    time_t deadline;
    size_t files, inputs;
} run = { .random = 0x9e3779b97f4a7c15 };

static uint64_t draw(uint64_t below)
{
    run.random ^= run.random << 13;
    run.random ^= run.random >> 7;
    run.random ^= run.random << 17;
    return run.random % below;
}

// An exact heap copy: a sanitizer sees the first byte read beyond the input.
static void feed(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        abort();
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    run.inputs++;
}

static size_t mutate(uint8_t *data, size_t size)
{
    static const uint8_t telling[] = { 0, 0xff, 0x7f, 0x80, '/', '.', '"', '{', '[', '\\', '\n', ' ' };
    for (uint64_t changes = 1 + draw(4); changes && size; changes--) {
        size_t at = draw(size);
        switch (draw(5)) {
        case 0:
            data[at] ^= (uint8_t)(1u << draw(8));
            break;
        case 1:
            data[at] = telling[draw(sizeof(telling))];
            break;
        case 2:
            size = at; // cut
            break;
        case 3: { // copy a piece elsewhere
            size_t from = draw(size), length = draw(size - (at > from ? at : from)) + 1;
            memmove(data + at, data + from, length);
            break;
        }
        default: // take a piece out
            memmove(data + at, data + at + 1, size - at - 1);
            size--;
        }
    }
    return size;
}

static void feed_file(const char *path)
{
    FILE *file = fopen(path, "rbe");
    uint8_t *original = malloc(INPUT_MAX), *changed = malloc(INPUT_MAX);
    if (!file || !original || !changed) {
        perror(path);
        exit(2);
    }
    size_t size = fread(original, 1, INPUT_MAX, file);
    fclose(file);
    run.files++;
    feed(original, size);
    for (int i = 0; i < MUTATIONS && time(NULL) < run.deadline; i++) {
        memcpy(changed, original, size);
        feed(changed, mutate(changed, size));
    }
    free(original);
    free(changed);
}

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void feed_path(const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
        feed_file(path);
        return;
    }
    struct dirent **names;
    int len = scandir(path, &names, visible, alphasort); // sorted: a run can be repeated
    if (len < 0) {
        perror(path);
        exit(2);
    }
    for (int i = 0; i < len; i++) {
        char inner[4096];
        snprintf(inner, sizeof(inner), "%s/%s", path, names[i]->d_name);
        feed_path(inner);
        free(names[i]);
    }
    free(names);
}

int main(int argc, char **argv)
{
    run.deadline = time(NULL) + SECONDS_MAX;
    for (int i = 1; i < argc; i++)
        feed_path(argv[i]);
    printf("%zu files, %zu inputs\n", run.files, run.inputs);
    return run.files ? 0 : 1; // an empty corpus proves nothing
}
