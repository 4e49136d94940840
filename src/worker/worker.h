// The image worker (berth-image) as whoever keeps a store runs it: what it stages is taken over, what it reports is passed on, what it
// asks is answered. The daemon does so, and berth-image by hand. One thread for each run.
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include <jansson.h>

#include "base/cancel.h"
#include "base/process.h"
#include "image/image.h"

#define WORKER_MODE "--worker" // stands before the verb: the same words by hand mean something else

typedef int worker_progress_fn(void *context, json_t *object); // negative: nobody listens any more

struct worker {
    struct image_store *images; // borrowed, as are the next two
    const char *program; // berth-image's path, or berth-commit's
    void *owner; // for the functions below
    char *staging; // name of its folder
    const char *order; // stands there as IMAGE_STAGING_ORDER; NULL: nothing does
    struct process process;
    int report_fd;
    int words_fd; // to its standard input, where it is asked something; -1
    worker_progress_fn *progress;
    void *context;
    // Called for each image that was taken over, and for each line that is neither an image nor an error.
    int (*told)(struct worker *worker, const struct image_staged *staged, const char *id, struct arena *arena, struct err *err);
    int (*line)(struct worker *worker, json_t *object, struct err *err); // NULL: none is of interest
    // Before an image is taken over; NULL: nothing stands against it.
    int (*ready)(struct worker *worker, struct image_staged *staged, struct err *err);
    int (*started)(struct worker *worker, struct err *err); // NULL: nothing to do once it runs
    size_t image_len;
    size_t known_len; // layers that it was told to leave out
};

#define WORKER_INIT_OF(store, path, who) \
    { .images = (store), .program = (path), .owner = (who), .process = PROCESS_NONE, .report_fd = -1, .words_fd = -1 }
void worker_done(struct worker *worker); // ends it, if it still runs
// argv: the program's name, a verb and its arguments (berth-commit has one verb, which is not named). An error that it reports is the call's.
int worker_run(struct worker *worker, char *const argv[], int input_fd, const struct cancel *cancel, struct err *err);
// Which of these layers the store has: the answer that a pull waits for.
int worker_answer_layers(struct worker *worker, json_t *diff_ids, struct err *err);
json_t *worker_progress(const json_t *part); // its progress in Docker's form; a reference
void worker_tell(const struct worker *worker, json_t *object); // takes it

// How registries are reached and who we are there: the line that a worker reads first. malloc'ed, with secrets.
struct worker_remote {
    const char *username, *password, *identity_token, *registry_token, *certs_dir; // NULL is unset
    const struct strv *insecure, *mirrors;
    int64_t downloads, uploads, attempts; // layers at a time, tries until a registry answers; 0: the default
};
char *worker_remote_words(const struct worker_remote *remote);

// A push, by a worker that runs `send` with a socket as its words_fd: what it needs of the image, once it runs (`started`); and, of its line
// {"pushed":...}, the manifest that the registry has now (its texts in the arena), which is recorded.
int worker_send_image(struct worker *worker, const struct image *image, struct err *err);
int worker_take_pushed(struct worker *worker, const struct image *image, json_t *form, struct arena *arena, struct image_manifest *out,
                       struct err *err);

// Gets so many bytes as can be read from pipe_fd; negative: nobody wants more.
typedef int worker_pipe_fn(void *context, int pipe_fd, size_t size);
// What comes out of a pipe goes to `sink` until its end.
int pipe_relay(int fd, worker_pipe_fn *sink, void *context, const struct cancel *cancel, struct err *err);
// The archive that docker save makes of these images, by name. Everything that can be missing is told before the first byte; an error
// after it (internal) means that the archive lacks its end.
int worker_save(struct image_store *images, const char *program, const struct strv *names, worker_pipe_fn *sink, void *context,
                const struct cancel *cancel, struct err *err);
// The archive of the image with that ID, under these names and no others; of none: without a name.
int worker_save_image(struct image_store *images, const char *program, const char *id, const struct strv *names, worker_pipe_fn *sink, void *context,
                      const struct cancel *cancel, struct err *err);
// An archive of these members. A name that ends in "/" is a folder's.
struct worker_file {
    const char *name;
    int fd; // borrowed; -1: its content is the text
    const char *text;
};
int worker_save_files(struct image_store *images, const char *program, const struct worker_file *files, size_t len, worker_pipe_fn *sink, void *context,
                      const struct cancel *cancel, struct err *err);

// `size` bytes of a layer's exact tar from `start` on, by its files (image/image.h). An error after the first byte means that the end is
// missing; of a whole tar the digest was checked before its last byte.
struct worker_range {
    int image_fd, recipe_fd;
    const char *diff_id;
    int64_t start, size;
};
int worker_range(struct image_store *images, const char *program, const struct worker_range *range, worker_pipe_fn *sink, void *context,
                 const struct cancel *cancel, struct err *err);

#endif
