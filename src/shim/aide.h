// A process beside the shim that does one piece of work which takes long, in plain blocking code: a conversation with CRIU. It is a
// fork of the shim, so that it has what the request brought; its children become the shim's when it ends, because that is a
// subreaper. It ends by its last word, or with the shim.
//
//     shim                         aide
//      aide_start()  ---fork--->   job(context, &aide)
//      on_word       <--------     aide_say()       where the job has something to tell on the way
//      aide_go_on()  -------->     aide_await()     and waits for the shim's turn
//      on_word       <--------     (its result)     then it ends; aide_free()
#ifndef SHIM_AIDE_H
#define SHIM_AIDE_H

#include "shim/wall.h"

struct aide_word {
    int result; // below 0: `err` says why, and it is the last word
    bool last;
    pid_t pid; // what else the job tells
    struct err err;
};

struct aide;
// In the other process. What it leaves open or allocated goes with it.
typedef int aide_job(void *context, int sock, struct err *err);
// In the shim's loop; `fd` is -1 or the callee's. After the last word the aide has ended and been reaped.
typedef void aide_word_fn(struct aide *aide, struct aide_word *word, int fd);

struct aide {
    struct shim *shim;
    struct request *request; // that waits for the next word; the owner sets it
    pid_t pid;
    int pidfd, sock;
    struct loop_source *source;
    aide_word_fn *on_word;
};

int aide_start(struct shim *shim, aide_job *job, void *context, aide_word_fn *on_word, struct aide **out, struct err *err);
int aide_go_on(struct aide *aide, struct err *err);
void aide_free(struct aide *aide); // NULL is fine; kills what still runs

// The job's side.
int aide_say(int sock, pid_t pid, int fd, struct err *err);
int aide_await(int sock, struct err *err); // cancelled when the shim has given it up

#endif
