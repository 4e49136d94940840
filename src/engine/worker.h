// The image worker (worker/worker.h) as the engine runs it. See images.c.
#ifndef ENGINE_WORKER_H
#define ENGINE_WORKER_H

#include "engine_private.h"
#include "worker/worker.h"

#define WORKER_INIT(engine) WORKER_INIT_OF((engine)->images, (engine)->image_program, engine)
#define COMMIT_WORKER_INIT(engine) WORKER_INIT_OF((engine)->images, (engine)->commit_program, engine)
// The line about registries that a worker reads first: the daemon's options and a client's login. malloc'ed, with secrets.
char *worker_words(struct engine *engine, const struct engine_login *login);
int worker_open_words(struct worker *worker, struct err *err); // its words_fd; gives the end that the worker reads, the caller's
int worker_open_talk(struct worker *worker, struct err *err); // the same, of a worker that is given descriptors later: a socket
int worker_write_words(const struct worker *worker, const struct engine_login *login, struct err *err); // to words_fd
int pull_line(struct worker *worker, json_t *object, struct err *err); // of a worker that pulls: worker->line

#endif
