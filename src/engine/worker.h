// One run of the image worker (berth-image): what it stages is taken over, what it reports is passed on. See images.c.
#ifndef ENGINE_WORKER_H
#define ENGINE_WORKER_H

#include "engine_private.h"

struct worker {
    struct engine *engine;
    char *staging; // name of its folder
    struct process process;
    int report_fd;
    int words_fd; // to its standard input, where it is asked something; -1
    engine_progress_fn *progress;
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

#define WORKER_INIT(of_engine) { .engine = (of_engine), .process = PROCESS_NONE, .report_fd = -1, .words_fd = -1 }
void worker_done(struct worker *worker);
int worker_run(struct worker *worker, char *const argv[], int input_fd, const struct cancel *cancel, struct err *err);
// The line about registries that a worker reads first: the daemon's options and a client's login. malloc'ed, with secrets.
char *worker_words(struct engine *engine, const struct engine_login *login);
int worker_write_words(const struct worker *worker, const struct engine_login *login, struct err *err); // to words_fd
json_t *worker_progress(const json_t *part); // its progress in Docker's form; a reference
void worker_tell(const struct worker *worker, json_t *object); // takes it

// What comes out of a pipe goes to `sink` until its end.
int pipe_relay(int fd, engine_pipe_fn *sink, void *context, const struct cancel *cancel, struct err *err);

#endif
