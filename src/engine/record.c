// Containers in the store: one row each, written in the transaction of the verb that changes it.
//
// `body` is the create request as it came, with what updates changed, `effective` the image's settings merged in (so that a container outlives its
// image's record), `mounts` the resolved mounts, `state` what the last run was, `health` what its checks have found, `networks`
// what connects and disconnects have made of the body's.
#include "networks.h"

const char *const engine_migrations[] = {
    "CREATE TABLE engine_meta(key TEXT PRIMARY KEY, value TEXT NOT NULL);"
    "CREATE TABLE containers(id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_ns INTEGER NOT NULL,"
    " image_id TEXT NOT NULL, image_name TEXT NOT NULL, body TEXT NOT NULL, effective TEXT NOT NULL,"
    " mounts TEXT NOT NULL, state TEXT NOT NULL);",
    "ALTER TABLE containers ADD COLUMN health TEXT;",
    ("CREATE TABLE networks(id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_ns INTEGER NOT NULL, body TEXT NOT NULL);"
     "ALTER TABLE containers ADD COLUMN networks TEXT;"),
};
const size_t engine_migration_len = ARRAY_LEN(engine_migrations);

// ---- forms ----------------------------------------------------------------------------------------------------------

static const struct json_field mount_fields[] = {
    JSON_FIELD("Type", JSON_TEXT, struct engine_mount, type),
    JSON_FIELD("Name", JSON_TEXT, struct engine_mount, name, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("Source", JSON_TEXT, struct engine_mount, source),
    JSON_FIELD("Destination", JSON_TEXT, struct engine_mount, destination),
    JSON_FIELD("Driver", JSON_TEXT, struct engine_mount, driver, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("Mode", JSON_TEXT, struct engine_mount, mode),
    JSON_FIELD("RW", JSON_FLAG, struct engine_mount, rw),
    JSON_FIELD("Propagation", JSON_TEXT, struct engine_mount, propagation),
    JSON_FIELD("Subpath", JSON_TEXT, struct engine_mount, subpath, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("Alone", JSON_FLAG, struct engine_mount, alone, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("WritableBelow", JSON_FLAG, struct engine_mount, writable_below, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("NeedsMount", JSON_FLAG, struct engine_mount, needs_mount, .flags = JSON_OMIT_EMPTY),
};
static const struct json_table mount_table = JSON_TABLE(struct engine_mount, mount_fields);

struct mounts_form {
    struct json_list mounts;
};
static const struct json_field mounts_form_fields[] = {
    JSON_FIELD("mounts", JSON_LIST, struct mounts_form, mounts, .sub = &mount_table),
};
static const struct json_table mounts_form_table = JSON_TABLE(struct mounts_form, mounts_form_fields);

static const char *const status_words[] = { "created", "running", "paused", "exited", "removing", "restarting" };

static char *state_text(const struct container_state *state)
{
    json_t *form = json_pack("{s:s, s:I, s:I, s:I, s:I, s:b, s:b, s:I, s:b, s:o}", "status", status_words[state->status], "pid",
                             (json_int_t)state->pid, "exit_code", (json_int_t)state->exit_code, "started_ns",
                             (json_int_t)state->started_ns, "finished_ns", (json_int_t)state->finished_ns, "oom_killed",
                             state->oom_killed, "remove_volumes", state->remove_volumes, "restart_count",
                             (json_int_t)state->restart_count, "stop_wanted", state->stop_wanted, "error",
                             json_new_text(state->error));
    char *text = json_text(form);
    json_decref(form);
    return text;
}

static int state_parse(const char *text, struct container_state *out, struct err *err)
{
    _cleanup_json_ json_t *form = NULL;
    if (json_parse(text, strlen(text), &form, err) < 0)
        return -1;
    const char *status = json_get_text(form, "status", "exited");
    for (size_t i = 0; i < ARRAY_LEN(status_words); i++)
        if (str_eq(status, status_words[i]))
            out->status = (enum container_status)i;
    out->pid = json_get_int(form, "pid", 0);
    out->exit_code = json_get_int(form, "exit_code", 0);
    out->started_ns = json_get_int(form, "started_ns", 0);
    out->finished_ns = json_get_int(form, "finished_ns", 0);
    out->oom_killed = json_get_flag(form, "oom_killed", false);
    out->remove_volumes = json_get_flag(form, "remove_volumes", false);
    out->restart_count = json_get_int(form, "restart_count", 0);
    out->stop_wanted = json_get_flag(form, "stop_wanted", false);
    out->error = mem_strdup(json_get_text(form, "error", ""));
    return 0;
}

// ---- writing --------------------------------------------------------------------------------------------------------

static int in_transaction(struct store *store, int result, struct err *err)
{
    if (result < 0) {
        store_rollback(store);
        return -1;
    }
    return store_commit(store, err);
}

int record_insert(struct container *container, const char *name, struct err *err)
{
    struct store *store = container->engine->store;
    const struct mounts_form mounts = { { .items = container->mounts, .len = container->mount_len } };
    _cleanup_json_ json_t *effective_form = json_encode(&oci_image_process_table, &container->config.process);
    _cleanup_json_ json_t *mounts_json = json_encode(&mounts_form_table, &mounts);
    _cleanup_free_ char *body = json_text(container->body);
    _cleanup_free_ char *effective = json_text(effective_form);
    _cleanup_free_ char *mounts_text = json_text(mounts_json);
    _cleanup_free_ char *state = NULL;

    mutex_lock(&container->lock);
    state = state_text(&container->state);
    _cleanup_json_ json_t *networks_form = endpoints_encode(container);
    mutex_unlock(&container->lock);
    _cleanup_free_ char *networks = json_text(networks_form);
    if (store_begin(store, err) < 0)
        return -1;
    return in_transaction(store,
                          store_exec(store, err,
                                     "INSERT INTO containers(id, name, created_ns, image_id, image_name, body, effective,"
                                     " mounts, state, networks) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                                     "ttittttttt", container->id, name, container->created_ns, container->image_id,
                                     container->image_name, body, effective, mounts_text, state, networks),
                          err);
}

int record_save_state(struct container *container, struct err *err)
{
    struct store *store = container->engine->store;
    mutex_lock(&container->lock);
    _cleanup_free_ char *state = state_text(&container->state);
    mutex_unlock(&container->lock);
    if (store_begin(store, err) < 0)
        return -1;
    return in_transaction(
        store, store_exec(store, err, "UPDATE containers SET state = ? WHERE id = ?", "tt", state, container->id), err);
}

int record_save_body(struct container *container, struct err *err)
{
    struct store *store = container->engine->store;
    mutex_lock(&container->lock);
    _cleanup_free_ char *body = json_text(container->body);
    mutex_unlock(&container->lock);
    if (store_begin(store, err) < 0)
        return -1;
    return in_transaction(
        store, store_exec(store, err, "UPDATE containers SET body = ? WHERE id = ?", "tt", body, container->id), err);
}

int record_save_networks(struct container *container, struct err *err)
{
    struct store *store = container->engine->store;
    mutex_lock(&container->lock);
    _cleanup_json_ json_t *form = endpoints_encode(container);
    mutex_unlock(&container->lock);
    _cleanup_free_ char *text = json_text(form);
    if (store_begin(store, err) < 0)
        return -1;
    return in_transaction(
        store, store_exec(store, err, "UPDATE containers SET networks = ? WHERE id = ?", "tt", text, container->id), err);
}

void record_note_state(struct container *container)
{
    struct err err = { 0 };
    if (record_save_state(container, &err) < 0)
        log_warn("container %s: its state is not recorded: %s", container->id, err.message);
}

// A result more or less is worth no failure.
void record_note_health(struct container *container)
{
    struct store *store = container->engine->store;
    struct err err = { 0 };
    mutex_lock(&container->lock);
    _cleanup_free_ char *health = health_text(container);
    mutex_unlock(&container->lock);
    if (store_begin(store, &err) < 0 ||
        in_transaction(store, store_exec(store, &err, "UPDATE containers SET health = ? WHERE id = ?", "tt", health, container->id),
                       &err) < 0)
        log_warn("container %s: its health is not recorded: %s", container->id, err.message);
}

int record_rename(struct container *container, const char *name, struct err *err)
{
    struct store *store = container->engine->store;
    if (store_begin(store, err) < 0)
        return -1;
    return in_transaction(
        store, store_exec(store, err, "UPDATE containers SET name = ? WHERE id = ?", "tt", name, container->id), err);
}

int record_delete(struct container *container, struct err *err)
{
    struct store *store = container->engine->store;
    if (store_begin_removal(store, err) < 0)
        return -1;
    return in_transaction(store, store_exec(store, err, "DELETE FROM containers WHERE id = ?", "t", container->id), err);
}

// ---- reading --------------------------------------------------------------------------------------------------------

static int container_from_row(struct container *container, const struct store_row *row, struct err *err)
{
    struct arena *arena = &container->arena;
    struct mounts_form mounts;
    const char *body = store_text(row, 5), *effective = store_text(row, 6), *mounts_text = store_text(row, 7);

    container->name = mem_strdup(store_text(row, 1));
    container->created_ns = store_int(row, 2);
    container->image_id = arena_strdup(arena, store_text(row, 3));
    container->image_name = arena_strdup(arena, store_text(row, 4));
    if (json_parse(body, strlen(body), &container->body, err) < 0 ||
        json_decode(&container_config_table, container->body, &container->config, arena, NULL, err) < 0 ||
        json_decode_text(&oci_image_process_table, effective, strlen(effective), &container->config.process, arena, NULL,
                         err) < 0 ||
        json_decode_text(&mounts_form_table, mounts_text, strlen(mounts_text), &mounts, arena, NULL, err) < 0 ||
        state_parse(store_text(row, 8), &container->state, err) < 0)
        return err_wrap(err, "container %s", container->id);
    health_parse(container, store_text(row, 9));
    if (container->state.status == STATUS_RESTARTING) // nobody waits for it any more: engine_resume() decides anew
        container->state.status = STATUS_EXITED;
    container_settle(container);
    container->mounts = mounts.mounts.items;
    container->mount_len = mounts.mounts.len;
    return endpoints_decode(container, store_text(row, 10), err) < 0 ? err_wrap(err, "container %s", container->id) : 0;
}

// Rows come under the store's lock, so they are put on a list of their own first.
struct loading {
    struct engine *engine;
    struct container *list; // newest first
};

static int load_row(void *context, const struct store_row *row, struct err *err)
{
    struct loading *loading = context;
    const char *id = store_text(row, 0);
    if (!id || strlen(id) != 64)
        return err_set(err, ERR_INTERNAL, "the store holds a container with a malformed id");
    struct container *container = container_new(loading->engine, id);
    if (container_from_row(container, row, err) < 0) {
        container_unref(container);
        return -1;
    }
    container->next = loading->list;
    loading->list = container;
    return 0;
}

int record_load_all(struct engine *engine, struct err *err)
{
    struct loading loading = { engine, NULL };
    int result = store_query(engine->store, err, load_row, &loading,
                             "SELECT id, name, created_ns, image_id, image_name, body, effective, mounts, state, health, networks"
                             " FROM containers ORDER BY created_ns",
                             "");
    mutex_lock(&engine->list_lock);
    engine->containers = loading.list;
    mutex_unlock(&engine->list_lock);
    return result;
}

// ---- the daemon id --------------------------------------------------------------------------------------------------

struct identity {
    char *id;
    int64_t created_ns;
};

static int take_identity(void *context, const struct store_row *row, struct err *err)
{
    struct identity *identity = context;
    const char *key = store_text(row, 0), *text = store_text(row, 1);
    if (str_eq(key, "created_ns"))
        return num_parse_i64(slice_of(text), &identity->created_ns)
                   ? 0
                   : err_set(err, ERR_INTERNAL, "the store holds a malformed time of its making");
    if (strlen(text) != 8 || !hex_valid(slice_of(text)))
        return err_set(err, ERR_INTERNAL, "the store holds a malformed daemon id");
    memcpy(identity->id, text, 9);
    return 0;
}

static int put_meta(struct store *store, const char *key, const char *value, struct err *err)
{
    return store_exec(store, err, "INSERT OR REPLACE INTO engine_meta(key, value) VALUES(?, ?)", "tt", key, value);
}

// A store of an older version has no time.
int record_daemon_id(struct store *store, char id[9], int64_t *created_ns, struct err *err)
{
    struct identity identity = { id, 0 };
    char now[24];
    id[0] = 0;
    if (store_query(store, err, take_identity, &identity,
                    "SELECT key, value FROM engine_meta WHERE key IN ('daemon_id', 'created_ns')", "") < 0)
        return -1;
    *created_ns = identity.created_ns ? identity.created_ns : clock_wall_ns();
    if (id[0] && identity.created_ns)
        return 0;
    if (!id[0])
        random_hex(id, 8);
    snprintf(now, sizeof(now), "%lld", (long long)*created_ns);
    if (store_begin(store, err) < 0)
        return -1;
    int result = put_meta(store, "daemon_id", id, err);
    return in_transaction(store, result < 0 ? -1 : put_meta(store, "created_ns", now, err), err);
}
