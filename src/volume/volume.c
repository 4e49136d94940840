// A volume is its folder: the record beside it says when it was made and whether somebody named it. Because volumes hold
// what people cannot get back, nothing here deletes a folder on a record's word alone:
//
// - made: folder first (under a hidden name, then renamed), then the record. A folder without a record is adopted at start.
// - removed: folder renamed to a hidden name first, then the record, then the files. Hidden names are removed at start.
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/num.h"
#include "json/json.h"
#include "volume_private.h"

#define ANONYMOUS_LEN 64
#define VOLUME_LOCK_RANK 8 // below the store's own
#define HIDDEN_PREFIX ".berth-"

static const char *const migrations[] = {
    "CREATE TABLE volumes(name TEXT PRIMARY KEY, created_ns INTEGER NOT NULL, anonymous INTEGER NOT NULL);",
    "ALTER TABLE volumes ADD COLUMN document TEXT NOT NULL DEFAULT '{}';",
};

// ---- names ----------------------------------------------------------------------------------------------------------

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool name_valid(const char *name)
{
    if (!is_alnum(name[0]))
        return false;
    for (size_t i = 1; name[i]; i++)
        if (!is_alnum(name[i]) && !strchr("_.-", name[i]))
            return false;
    return strlen(name) <= 255;
}

static int check_name(const char *name, struct err *err)
{
    if (strlen(name) < 2)
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "create %s: volume name is too short, names should be at least two alphanumeric characters", name);
    if (!name_valid(name))
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "create %.255s: \"%.255s\" includes invalid characters for a local volume name, only"
                       " \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute"
                       " path",
                       name, name);
    return 0;
}

static bool looks_anonymous(const char *name)
{
    return strlen(name) == ANONYMOUS_LEN && hex_valid(slice_of(name));
}

static void hidden_name(char out[VOLUME_HIDDEN_SIZE])
{
    char random[17];
    random_hex(random, 16);
    snprintf(out, VOLUME_HIDDEN_SIZE, HIDDEN_PREFIX "%s", random);
}

// ---- records --------------------------------------------------------------------------------------------------------

struct document { // what else is known of a volume, as JSON
    struct kvs labels, options;
};

static const struct json_field document_fields[] = {
    JSON_FIELD("labels", JSON_TEXT_MAP, struct document, labels),
    JSON_FIELD("options", JSON_TEXT_MAP, struct document, options, .flags = JSON_OMIT_EMPTY),
};
static const struct json_table document_table = JSON_TABLE(struct document, document_fields);

static char *document_text(const struct volume_birth *birth)
{
    static const struct kvs none;
    const struct document document = { birth && birth->labels ? *birth->labels : none, birth && birth->options ? *birth->options : none };
    _cleanup_json_ json_t *value = json_encode(&document_table, &document);
    return json_text(value);
}

static int put_record(struct volume_store *volumes, const char *name, bool anonymous, const struct volume_birth *birth, int64_t created_ns,
                      struct err *err)
{
    _cleanup_free_ char *text = document_text(birth);
    if (store_begin(volumes->store, err) < 0)
        return -1;
    if (store_exec(volumes->store, err, "INSERT INTO volumes(name, created_ns, anonymous, document) VALUES(?, ?, ?, ?)", "tiit", name,
                   created_ns, (int64_t)anonymous, text) < 0) {
        store_rollback(volumes->store);
        return -1;
    }
    return store_commit(volumes->store, err);
}

static int delete_record(struct volume_store *volumes, const char *name, struct err *err)
{
    if (store_begin_removal(volumes->store, err) < 0)
        return -1;
    if (store_exec(volumes->store, err, "DELETE FROM volumes WHERE name = ?", "t", name) < 0) {
        store_rollback(volumes->store);
        return -1;
    }
    return store_commit(volumes->store, err);
}

struct finding {
    const struct volume_store *volumes;
    struct arena *arena;
    struct volume *items;
    size_t len, capacity;
};

// Docker's mark of one that nobody named.
#define ANONYMOUS_LABEL "com.docker.volume.anonymous"

static void label_anonymous(struct volume *volume, struct arena *arena)
{
    struct kvs *labels = &volume->labels;
    if (!volume->anonymous || kvs_get(labels, ANONYMOUS_LABEL))
        return;
    struct kv *items = arena_alloc(arena, (labels->len + 1) * sizeof(*items));
    if (labels->len)
        memcpy(items, labels->items, labels->len * sizeof(*items));
    items[labels->len] = (struct kv){ arena_strdup(arena, ANONYMOUS_LABEL), arena_strdup(arena, "") };
    *labels = (struct kvs){ .items = items, .len = labels->len + 1 };
}

static int take_volume(void *context, const struct store_row *row, struct err *err)
{
    struct finding *finding = context;
    struct arena *arena = finding->arena;
    if (finding->len == finding->capacity) {
        struct volume *grown = arena_alloc(arena, (finding->capacity = finding->capacity * 2 + 1) * sizeof(*grown));
        if (finding->len)
            memcpy(grown, finding->items, finding->len * sizeof(*grown));
        finding->items = grown;
    }
    struct volume *volume = &finding->items[finding->len++];
    *volume = (struct volume){ .name = arena_strdup(arena, store_text(row, 0)), .created_ns = store_int(row, 1),
                               .anonymous = store_int(row, 2) };
    volume->path = arena_printf(arena, "%s/volumes/%s/_data", finding->volumes->root_path, volume->name);
    const char *text = store_text(row, 3);
    struct document document = { 0 };
    if (json_decode_text(&document_table, text, strlen(text), &document, arena, NULL, err) < 0)
        return err_wrap(err, "volume %s", volume->name);
    volume->labels = document.labels;
    volume->options = document.options;
    label_anonymous(volume, arena);
    return 0;
}

#define SELECT "SELECT name, created_ns, anonymous, document FROM volumes "

// 1 when it is there, 0 when not.
static int find(struct volume_store *volumes, const char *name, struct arena *arena, struct volume *out, struct err *err)
{
    struct finding finding = { .volumes = volumes, .arena = arena };
    if (store_query(volumes->store, err, take_volume, &finding, SELECT "WHERE name = ?", "t", name) < 0)
        return -1;
    if (finding.len)
        *out = finding.items[0];
    return finding.len > 0;
}

int volume_list(struct volume_store *volumes, struct arena *arena, struct volume **out, size_t *len, struct err *err)
{
    struct finding finding = { .volumes = volumes, .arena = arena };
    if (store_query(volumes->store, err, take_volume, &finding, SELECT "ORDER BY name", "") < 0)
        return -1;
    *out = finding.items;
    *len = finding.len;
    return 0;
}

// ---- holds ----------------------------------------------------------------------------------------------------------

static struct hold **hold_of(struct volume_store *volumes, const char *name) REQUIRES(volumes->lock)
{
    struct hold **place = &volumes->holds;
    while (*place && !str_eq((*place)->name, name))
        place = &(*place)->next;
    return place;
}

int volume_hold(struct volume_store *volumes, const char *name, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct volume volume;
    mutex_lock(&volumes->lock);
    int result = volume_get(volumes, name, &arena, &volume, err);
    struct hold **place = hold_of(volumes, name);
    if (result == 0 && !*place) {
        size_t size = strlen(name) + 1;
        *place = mem_alloc(sizeof(**place) + size);
        **place = (struct hold){ NULL, 0 };
        memcpy((*place)->name, name, size);
    }
    if (result == 0)
        (*place)->count++;
    mutex_unlock(&volumes->lock);
    return result;
}

void volume_release(struct volume_store *volumes, const char *name)
{
    mutex_lock(&volumes->lock);
    struct hold **place = hold_of(volumes, name), *hold = *place;
    if (hold && --hold->count == 0) {
        *place = hold->next;
        free(hold);
    }
    mutex_unlock(&volumes->lock);
}

// ---- at start -------------------------------------------------------------------------------------------------------

static int take_name(void *context, const struct store_row *row, struct err *err)
{
    strv_add(context, store_text(row, 0));
    return 0;
}

static bool has_folder(const struct volume_store *volumes, const char *name)
{
    struct stat info;
    return fstatat(volumes->volumes_fd, name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode);
}

static int settle_entry(struct volume_store *volumes, const struct strv *known, const char *name, struct err *err)
{
    struct stat info;
    if (str_starts(name, HIDDEN_PREFIX)) {
        file_remove_tree(volumes->volumes_fd, name, NULL); // what stays is tried again at the next start
        return 0;
    }
    if (strv_has(known, name) || strlen(name) < 2 || !name_valid(name) || !has_folder(volumes, name))
        return 0;
    _cleanup_free_ char *data = mem_printf("%s/_data", name);
    if (fstatat(volumes->volumes_fd, data, &info, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(info.st_mode))
        return 0;
    return put_record(volumes, name, looks_anonymous(name), NULL, info.st_ctim.tv_sec * NS_PER_S + info.st_ctim.tv_nsec,
                      err);
}

static int settle(struct volume_store *volumes, struct err *err)
{
    _cleanup_strv_ struct strv known = { 0 }, names = { 0 };
    if (store_query(volumes->store, err, take_name, &known, "SELECT name FROM volumes", "") < 0)
        return -1;
    for (size_t i = 0; i < known.len; i++)
        if (!has_folder(volumes, known.items[i]) && delete_record(volumes, known.items[i], err) < 0)
            return -1;
    if (file_list_names(volumes->volumes_fd, ".", &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++)
        if (settle_entry(volumes, &known, names.items[i], err) < 0)
            return -1;
    return 0;
}

// Closed to the host's other users: a container can leave a program with the setuid bit in its volume. Its processes, of any
// uid, reach the volume through their mount.
static int open_folder(struct volume_store *volumes, int root_fd, struct err *err)
{
    if (file_mkdirs(root_fd, "volumes", 0700, err) < 0 ||
        (volumes->volumes_fd = file_open_dir(root_fd, "volumes", err)) < 0)
        return -1;
    return fchmod(volumes->volumes_fd, 0700) < 0 ? err_errno(err, errno, "volumes") : 0;
}

int volume_store_open(struct store *store, int root_fd, const char *root_path, struct volume_store **out, struct err *err)
{
    struct volume_store *volumes = mem_new(struct volume_store);
    volumes->store = store;
    volumes->root_path = mem_strdup(root_path);
    volumes->volumes_fd = -1;
    mutex_init(&volumes->lock, VOLUME_LOCK_RANK);
    cond_init(&volumes->changed);
    if (store_migrate(store, "volume", migrations, ARRAY_LEN(migrations), err) < 0 ||
        open_folder(volumes, root_fd, err) < 0 || settle(volumes, err) < 0) {
        volume_store_close(volumes);
        return err_wrap(err, "volume store");
    }
    *out = volumes;
    return 0;
}

void volume_store_close(struct volume_store *volumes)
{
    if (!volumes)
        return;
    for (struct hold *hold = volumes->holds, *next; hold; hold = next) {
        next = hold->next;
        free(hold);
    }
    volume_uses_free(volumes);
    fd_close(volumes->volumes_fd);
    cond_done(&volumes->changed);
    mutex_done(&volumes->lock);
    free(volumes->root_path);
    free(volumes);
}

// ---- the verbs ------------------------------------------------------------------------------------------------------

void volume_store_own(struct volume_store *volumes, uid_t uid, gid_t gid)
{
    volumes->uid = uid;
    volumes->gid = gid;
}

static int fill_folder(const struct volume_store *volumes, const char *folder, struct err *err)
{
    if (mkdirat(volumes->volumes_fd, folder, 0700) < 0)
        return err_errno(err, errno, "make volume folder");
    _cleanup_close_ int fd = file_open_dir(volumes->volumes_fd, folder, err);
    if (fd < 0)
        return -1;
    if (mkdirat(fd, "_data", 0755) < 0 || fchmodat(fd, "_data", 0755, 0) < 0 || fchmod(fd, 0700) < 0 ||
        fchownat(fd, "_data", volumes->uid, volumes->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "make volume folder");
    return 0;
}

static int make_folder(struct volume_store *volumes, const char *name, struct err *err)
{
    char temporary[VOLUME_HIDDEN_SIZE];
    hidden_name(temporary);
    int result = fill_folder(volumes, temporary, err);
    if (result == 0 && renameat2(volumes->volumes_fd, temporary, volumes->volumes_fd, name, RENAME_NOREPLACE) < 0)
        result = err_errno(err, errno, "make volume folder");
    if (result < 0)
        file_remove_tree(volumes->volumes_fd, temporary, NULL);
    return result;
}

static int ensure_locked(struct volume_store *volumes, const char *name, bool anonymous, const struct volume_birth *birth,
                         struct arena *arena, struct volume *out, bool *created, struct err *err)
{
    int there = find(volumes, name, arena, out, err);
    *created = there == 0;
    if (there != 0)
        return there < 0 ? -1 : 0;
    if (make_folder(volumes, name, err) < 0)
        return -1;
    if (put_record(volumes, name, anonymous, birth, clock_wall_ns(), err) < 0) {
        file_remove_tree(volumes->volumes_fd, name, NULL); // empty, and nobody has heard of it
        return -1;
    }
    return find(volumes, name, arena, out, err) < 0 ? -1 : 0;
}

int volume_ensure(struct volume_store *volumes, const char *name, struct arena *arena, struct volume *out, bool *created,
                  struct err *err)
{
    return volume_create(volumes, name, NULL, arena, out, created, err);
}

int volume_create(struct volume_store *volumes, const char *name, const struct volume_birth *birth, struct arena *arena,
                  struct volume *out, bool *created, struct err *err)
{
    char random[ANONYMOUS_LEN + 1];
    bool anonymous = !name;
    random_hex(random, ANONYMOUS_LEN);
    name = anonymous ? random : name;
    if (check_name(name, err) < 0)
        return -1;
    if (birth && birth->options && volume_options_check(birth->options, err) < 0)
        return err_wrap(err, "create %s", name);
    mutex_lock(&volumes->lock);
    int result = ensure_locked(volumes, name, anonymous, birth, arena, out, created, err);
    mutex_unlock(&volumes->lock);
    return result < 0 ? err_wrap(err, "create %s", name) : 0;
}

int volume_get(struct volume_store *volumes, const char *name, struct arena *arena, struct volume *out, struct err *err)
{
    int there = find(volumes, name, arena, out, err);
    if (there == 0)
        return err_set(err, ERR_NOT_FOUND, "get %.255s: no such volume", name);
    return there < 0 ? -1 : 0;
}

// Out of sight, then out of the records.
static int detach_locked(struct volume_store *volumes, const char *name, const char *hidden, struct err *err)
    REQUIRES(volumes->lock)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct volume volume;
    if (volume_get(volumes, name, &arena, &volume, err) < 0)
        return -1;
    if (*hold_of(volumes, name))
        return err_set(err, ERR_CONFLICT, "remove %s: volume is in use", name);
    if (!volume_mounted_remove(&volume)) // what is mounted is not the volume's to be removed
        return err_set(err, ERR_CONFLICT, "remove %s: volume is in use: something on the host uses what is mounted there", name);
    if (renameat(volumes->volumes_fd, name, volumes->volumes_fd, hidden) < 0 && errno != ENOENT)
        return err_errno(err, errno, "remove %s", name);
    if (delete_record(volumes, name, err) < 0) {
        renameat(volumes->volumes_fd, hidden, volumes->volumes_fd, name);
        return -1;
    }
    return 0;
}

int volume_detach(struct volume_store *volumes, const char *name, char hidden[VOLUME_HIDDEN_SIZE], struct err *err)
{
    hidden_name(hidden);
    mutex_lock(&volumes->lock);
    int result = detach_locked(volumes, name, hidden, err);
    mutex_unlock(&volumes->lock);
    return result;
}

void volume_discard(struct volume_store *volumes, const char *hidden)
{
    file_remove_tree(volumes->volumes_fd, hidden, NULL); // what stays is tried again at the next start
}

int volume_remove(struct volume_store *volumes, const char *name, struct err *err)
{
    char hidden[VOLUME_HIDDEN_SIZE];
    if (volume_detach(volumes, name, hidden, err) < 0)
        return -1;
    volume_discard(volumes, hidden);
    return 0;
}
