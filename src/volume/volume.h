// Local volumes: <root>/volumes/<name>/_data, with a record in the store. Thread-safe; not to be called inside a store
// transaction. Whether a volume is in use is the engine's to know: remove asks nobody.
#ifndef VOLUME_VOLUME_H
#define VOLUME_VOLUME_H

#include "base/strv.h"
#include "store/store.h"

struct volume_store;

struct volume {
    char *name;
    char *path; // of _data on the host, absolute
    int64_t created_ns;
    bool anonymous;
    struct kvs labels;
    struct kvs options; // of Docker's local driver: type, device, o
};
// What a new one is made with; NULL: none.
struct volume_birth {
    const struct kvs *labels, *options;
};

#define VOLUME_HIDDEN_SIZE 32

// `root_fd` and `root_path` are the same folder, needed only during the call. Folders without a record (a crash, a restored
// backup) become volumes again; half-made and half-removed ones go.
int volume_store_open(struct store *store, int root_fd, const char *root_path, struct volume_store **out, struct err *err);
// New volumes' folders belong to these ids; before any is made.
void volume_store_own(struct volume_store *volumes, uid_t uid, gid_t gid);
void volume_store_close(struct volume_store *volumes);
// Gets or makes; the strings are arena memory. `name` NULL makes an anonymous one (64 hex). Names are
// [a-zA-Z0-9][a-zA-Z0-9_.-]+, else invalid_argument with Docker's text. *created tells whether it is new (then image content
// is copied in by the caller).
int volume_ensure(struct volume_store *volumes, const char *name, struct arena *arena, struct volume *out, bool *created,
                  struct err *err);
// not_found: "get NAME: no such volume".
int volume_get(struct volume_store *volumes, const char *name, struct arena *arena, struct volume *out, struct err *err);
// As volume_ensure(), with more for a new one (NULL: nothing); one that is there keeps its own. invalid_argument: an option is none.
int volume_create(struct volume_store *volumes, const char *name, const struct volume_birth *birth, struct arena *arena,
                  struct volume *out, bool *created, struct err *err);
// All, by name; in the arena.
int volume_list(struct volume_store *volumes, struct arena *arena, struct volume **out, size_t *len, struct err *err);
int volume_remove(struct volume_store *volumes, const char *name, struct err *err);
// The two halves of it: out of sight and of the records, at once; then the files, which may take long. Between the two a crash
// loses nothing but the files' removal, which the next start does.
int volume_detach(struct volume_store *volumes, const char *name, char hidden[VOLUME_HIDDEN_SIZE], struct err *err);
void volume_discard(struct volume_store *volumes, const char *hidden);

// A held volume can't be removed (conflict): for whoever has chosen it, until that is on record. Counted; not kept over a
// restart. not_found when it is gone.
int volume_hold(struct volume_store *volumes, const char *name, struct err *err);
void volume_release(struct volume_store *volumes, const char *name);

// ---- volumes with something mounted ------------------------------------------------------------------------------------

// The options name a file system or a folder of the host, which stands at the volume's path while it is used.
bool volume_needs_mount(const struct volume *volume);
// The first user mounts, the last takes off; counted, not kept over a restart. Waits for the mount, as long as that takes, with no lock held.
int volume_use(struct volume_store *volumes, const char *name, struct err *err);
void volume_unuse(struct volume_store *volumes, const char *name);
// What an earlier daemon mounted and nobody uses now is taken off.
void volume_sweep(struct volume_store *volumes);

#endif
