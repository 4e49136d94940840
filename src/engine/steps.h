// What a builder needs of the engine besides containers: trees to read from, made by jailed workers or of images, and images made a step at
// a time. Nothing here knows a Dockerfile.
//
// A tree is the descriptor of a detached mount that nobody else sees, so that a worker who has it reaches nothing beside it. The daemon opens
// nothing in one by a path of its content but single files (a Dockerfile, those of an ADD), with kernel/path.h: workers do (archive/worker.h).
//
// Any thread; blocking.
#ifndef ENGINE_STEPS_H
#define ENGINE_STEPS_H

#include "engine/engine.h"

// ---- a build's own folder -------------------------------------------------------------------------------------------

// A folder below the data root's staging, which goes with workshop_free(); one whose daemon was killed goes at the next start.
struct workshop;
int workshop_new(struct engine *engine, struct workshop **out, struct err *err);
void workshop_free(struct workshop *workshop); // NULL is fine
// A new, empty folder in it (O_PATH), and such a folder as a tree.
int workshop_folder(struct workshop *workshop, const char *name, struct err *err);
int tree_of_folder(int folder_fd, struct err *err);
int workshop_spool(struct workshop *workshop, struct err *err); // a file to be written and read, which goes with the workshop
int workshop_give_spool(struct workshop *workshop, int folder_fd, const char *name, struct err *err); // it is that one from now on
void workshop_drop_spool(struct workshop *workshop); // its bytes go with the last descriptor
// The host's path of that folder, for binds. malloc'ed.
char *workshop_path(const struct workshop *workshop, const char *name);
// A new file in such a folder, open for writing. `name` is one component.
int workshop_create(struct workshop *workshop, const char *folder, const char *name, mode_t mode, struct err *err);
// A file of ours in such a folder. `name` is one component.
int workshop_write(struct workshop *workshop, const char *folder, const char *name, const void *data, size_t size, mode_t mode, struct err *err);

// ---- trees ----------------------------------------------------------------------------------------------------------

// A client's tar, compressed or not, into a workshop's folder.
int folder_unpack(struct engine *engine, int folder_fd, int input_fd, const struct cancel *cancel, struct err *err);
// The same from a file: 1; 0 where that is no archive.
int folder_unpack_file(struct engine *engine, int folder_fd, int file_fd, const struct cancel *cancel, struct err *err);
// Whether what comes is the plain tar in the file `known_fd`, of that size, which said its end itself. A client's pieces go to tar_same_piece() (any one
// thread) until it wants no more or takes less than there is.
struct tar_same {
    int known_fd;
    int64_t size, at; // what is the same; all is where both are equal
    char *known; // malloc'ed
};
size_t tar_same_piece(void *same, const char *data, size_t size, bool *more);
int tar_same_copy(const struct tar_same *same, int spool_fd, struct err *err); // what is the same
// What is in a client's tar, compressed or not, and the plain tar itself in `spool_fd`, from its beginning; what that has already stands before what
// `input_fd` brings. 1: *entries, sorted as a listing wants them (build/listing.h) and malloc'ed, with texts in the arena; 0: a list can't say what is in
// it. Files that are wanted have their content, where it fits. *marked: the tar came as it is, and said its end itself.
struct listing_entry;
struct step_wanted {
    const char *path;
    struct buf text;
    bool found;
};
int tar_list(struct engine *engine, int input_fd, int spool_fd, struct step_wanted *wanted, size_t wanted_len, struct arena *arena, struct listing_entry **entries,
             size_t *len, bool *marked, const struct cancel *cancel, struct err *err);
// Removes these paths, without following a link, and whatever is below them, and unpacks a plain tar.
int folder_update(struct engine *engine, int folder_fd, const struct strv *removed, int tar_fd, const struct cancel *cancel, struct err *err);
// A regular file of at most `max` bytes; appended. not_found.
int folder_read(int folder_fd, const char *path, size_t max, struct buf *out, struct err *err);
int folder_remove(struct engine *engine, int folder_fd, const char *path, const struct cancel *cancel, struct err *err);
// An image's root as a tree; `id` NULL: an empty one.
int tree_of_image(struct engine *engine, const char *id, struct err *err);
// An image's root as a tar, to `sink`; `time`: of all files, in seconds; NULL: their own.
int image_root_tar(struct engine *engine, const char *id, const int64_t *time, engine_pipe_fn *sink, void *context, const struct cancel *cancel,
                   struct err *err);
int tree_open_file(int tree_fd, const char *path, struct err *err); // a regular file; no link leads out

// ---- COPY and ADD ---------------------------------------------------------------------------------------------------

struct step_source {
    int tree_fd; // borrowed
    const struct listing *listing; // what is in it (build/listing.h); NULL: that is not known
    const char *path; // below it, with wildcards
    bool unpack; // files that are archives give their members
    const char *include; // a pattern below the folder that `path` names: that alone, with the folders above it; NULL: all of it
    const char *required; // a path that must be there; NULL: none
};
// The members are those of archive/archive.h's struct archive_place.
struct step_place {
    const struct step_source *sources;
    size_t source_len; // 0: the target is made as a folder
    const char *target, *owner, *chmod; // owner NULL: none is asked for; chmod NULL: none
    const struct strv *excludes; // patterns; NULL: none
    bool folder, roots, optional;
    int64_t mode, time_max, now;
};
// What the sources that may be archives name, by the paths in their trees.
struct step_found {
    size_t source;
    const char *path;
    bool packed; // it begins like an archive
};
struct step_sources {
    char digest[OCI_DIGEST_SIZE]; // of what the sources are: contents, names, modes, owners
    struct step_found *found; // of all sources where one has `unpack`; else none
    size_t len;
    bool listed; // it is known from a listing: nothing was looked for, found is empty
};
// By the sources' listings alone, whose trees need not be open; false: these don't say it.
bool place_listed(const struct step_place *place, struct arena *arena, struct step_sources *out);
int place_look(struct engine *engine, const struct step_place *place, struct arena *arena, struct step_sources *out, const struct cancel *cancel,
               struct err *err);

// What the sources make of an empty tree, in a workshop's folder: a copy that somebody may write to.
int folder_place(struct engine *engine, int folder_fd, const struct step_place *place, const struct cancel *cancel, struct err *err);

// ---- images ---------------------------------------------------------------------------------------------------------

// The next image: `parent` with one step more. Configuration and history of the parent are known from its record; `process` takes the
// configuration's place.
struct step {
    const char *parent; // an ID; NULL: nothing
    const struct oci_image_process *process;
    const char *created_by, *comment, *author; // author NULL: the parent's
    const char *platform; // "linux/amd64", of what has no parent
    int64_t created_ns;
    int64_t time_max; // of step_container(): seconds; what was written later is said to be of then; -1: it is not
    const struct strv *stubs; // of step_container(): places of its mounts, of which nothing stays where nothing was; NULL: none. A guest's stay
    const char *diff_id; // of step_plain(): a layer that another image has on the same ones; NULL: none
    int64_t layer_size;
};
// The image of a step without a layer of its own, with what the sources make of the parent's tree, or with what a container has written. It is in no
// list (image_show()). *id is arena memory. A layer that changes nothing is none.
int step_plain(struct engine *engine, const struct step *step, struct arena *arena, char **id, struct err *err);
int step_place(struct engine *engine, const struct step *step, const struct step_place *place, const struct step_sources *sources,
               struct arena *arena, char **id, const struct cancel *cancel, struct err *err);
int step_container(struct engine *engine, const struct step *step, const char *container, struct arena *arena, char **id,
                   const struct cancel *cancel, struct err *err);
// As step_container(), for who may never want the layer: what was written stays a folder where it can (image/image.h: a loose layer). The container has it no more.
int step_keep(struct engine *engine, const struct step *step, const char *container, struct arena *arena, char **id, const struct cancel *cancel, struct err *err);
// The last step of an image with loose layers, on `parent`, which has none and is what is below that step (NULL: nothing): the image that the step would have been.
int step_settle(struct engine *engine, const char *kept, const char *parent, struct arena *arena, char **id, const struct cancel *cancel, struct err *err);
// All that `id` has above `base` (NULL: nothing) as one layer, as docker build --squash has it: the steps stay in the history, without layers.
int step_squash(struct engine *engine, const char *id, const char *base, const struct step *step, struct arena *arena, char **out,
                const struct cancel *cancel, struct err *err);
// An image of these layers, which the store has, and with one more member in its configuration: no root, but what carries them.
int image_of_layers(struct engine *engine, const struct strv *diff_ids, const char *member, json_t *value, const char *platform, struct arena *arena,
                    char **id, struct err *err);
// engine_push() of the image with that ID, whatever names it has.
int image_push_as(struct engine *engine, const char *id, const char *reference, const struct engine_login *login, engine_progress_fn *progress,
                  void *context, const struct cancel *cancel, struct err *err);
int step_forget(struct engine *engine, const char *id, int64_t *size, struct err *err); // image_forget()

// The image archive of one image, under these names: worker_save_image().
int image_archive(struct engine *engine, const char *id, const struct strv *names, engine_pipe_fn *sink, void *context, const struct cancel *cancel,
                  struct err *err);
// Pulls an image that goes in no list, and gets no name. `platform` NULL: this machine's. *id is arena memory.
int image_pull_unseen(struct engine *engine, const char *reference, const char *platform, const struct engine_login *login, engine_progress_fn *progress, void *context,
                      struct arena *arena, char **id, const struct cancel *cancel, struct err *err);
// The image of an archive, which goes in no list, and gets no name. *id is arena memory.
int image_load_unseen(struct engine *engine, int input_fd, struct arena *arena, char **id, const struct cancel *cancel, struct err *err);
// engine_start(), with variables ("NAME=VALUE") of this run alone: no file and no record has them.
int step_container_start(struct engine *engine, const char *container, const struct strv *env, struct err *err);

// Shows an image and gives it its names; tells those who watch.
int step_publish(struct engine *engine, const char *id, const struct strv *tags, struct err *err);

const char *engine_data_root(const struct engine *engine);
const char *engine_exec_root(const struct engine *engine);
struct store *engine_store(struct engine *engine); // a builder's own tables

#endif
