// Small files of the client's that are read into memory: the Dockerfile, .dockerignore.
#include "buildkit_private.h"

struct reading {
    struct wanted *files;
    size_t len;
    struct wanted *current;
};

static int begin_file(void *of, const struct stat_message *stat, struct err *err)
{
    struct reading *reading = of;
    reading->current = NULL;
    for (size_t i = 0; i < reading->len; i++) {
        struct wanted *wanted = &reading->files[i];
        if (!str_eq(wanted->name, stat->path))
            continue;
        if (stat->mode >> 25 == 0) { // no folder, link or device
            reading->current = wanted;
            wanted->found = true;
            buf_clear(&wanted->text);
        } else if (!str_empty(stat->linkname) && !wanted->link) {
            wanted->link = mem_strdup(stat->linkname);
        }
    }
    return 0;
}

static int add_text(void *of, const char *data, size_t size, struct err *err)
{
    struct reading *reading = of;
    if (!reading->current)
        return 0;
    buf_add(&reading->current->text, data, size);
    return buf_check(&reading->current->text, reading->current->name, err);
}

static int end_file(void *of, const struct stat_message *stat, struct err *err)
{
    return 0;
}

int wanted_read(struct buildkit_session *session, const char *folder, struct wanted *files, size_t len, struct step *step,
                      const struct cancel *cancel, struct err *err)
{
    _cleanup_strv_ struct strv names = { 0 };
    struct reading reading = { files, len, NULL };
    const struct files_request request = { .folder = folder, .follow = &names };
    const struct files_sink sink = { begin_file, add_text, end_file, &reading };
    for (size_t i = 0; i < len; i++)
        strv_add(&names, files[i].name);
    return files_receive(session, &request, &sink, step, cancel, err);
}
