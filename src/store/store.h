// The daemon's SQLite database (<root>/berth.db), owned here: opening, migrations, transactions, statements. Each room
// hands in its own list of migrations and owns its own tables. A verb is one transaction: after a crash at any
// instruction the store is either before or after it.
//
// WAL, synchronous=NORMAL, BEGIN IMMEDIATE, busy timeout 10 s; several processes may open it. Within a process one
// handle serves all threads: store_begin() takes the store's own lock and store_commit()/store_rollback() release it,
// so a transaction belongs to one thread and is short: no waiting for anything while it is open.
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/err.h"

struct store;

int store_open(const char *path, struct store **out, struct err *err);
void store_close(struct store *store);

// On a full disk even what frees some of it needs a little first. That little is kept beside the database ("PATH-reserve", 1 MiB), and given up here;
// false: it was given up before. A later commit takes it again, once there is room. What failed with resource_exhausted may then be tried once more.
bool store_make_room(struct store *store);

// Brings the room's tables to the newest form: migrations[i] is run once, in order, ever, and recorded under `room`.
int store_migrate(struct store *store, const char *room, const char *const *migrations, size_t len, struct err *err);

int store_begin(struct store *store, struct err *err); // they don't nest: a second one is an error, the first stays
int store_begin_removal(struct store *store, struct err *err); // for what frees some of the disk: when it is full, room is made first
int store_commit(struct store *store, struct err *err); // when it fails, the transaction is rolled back
void store_rollback(struct store *store); // harmless when the thread has no transaction open

// One statement with parameters, inside a transaction of the calling thread. `types` has a letter per parameter:
// t = const char * (NULL is SQL NULL), i = int64_t, b = const void *, size_t.
//
//     store_exec(store, err, "INSERT INTO names(name, id) VALUES(?, ?)", "ti", name, (int64_t)id)
//
// A violated UNIQUE or PRIMARY KEY is a conflict.
int store_exec(struct store *store, struct err *err, const char *sql, const char *types, ...);

// A query: the callback gets each row; it returns 0 to go on, or negative with the error filled to stop. Must not call
// the store. Works inside a transaction or, taking the lock for the call, outside one.
struct store_row;
typedef int store_row_fn(void *context, const struct store_row *row, struct err *err);
int store_query(struct store *store, struct err *err, store_row_fn *fn, void *context, const char *sql,
                const char *types, ...);

const char *store_text(const struct store_row *row, int column); // NULL for SQL NULL; valid during the callback
int64_t store_int(const struct store_row *row, int column);

#endif
