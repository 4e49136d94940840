// SQLite behind one lock. The lock is held from store_begin() to the end of the transaction, so statements of one transaction
// never mix with another thread's; a query outside a transaction takes it for its own duration.
//
// Statements stay compiled, those that were used last: to read their text takes longer than what most of them do. Whoever runs one has taken it
// away meanwhile, so a query inside of a row's function never meets its own.
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/fd.h"
#include "base/mutex.h"
#include "store/store.h"

#define BUSY_TIMEOUT_MS 10000
#define WAL_RETRY_MS 10
#define STORE_LOCK_RANK 9
#define COMPILED_MAX 64 // statements of some 3 kB
#define RESERVE_SIZE (1 << 20)

struct compiled {
    sqlite3_stmt *statement; // NULL: free
    uint32_t hash; // of its text
    uint64_t used; // which of all uses was its last
};

struct store {
    sqlite3 *db;
    struct mutex lock;
    // Thread of the open transaction, 0 when none is. Written under the lock; read without it, because a thread can only
    // ever find its own id there when it wrote it itself.
    atomic_int owner;
    char *reserve; // path of the file that keeps some of the disk free
    bool reserved;
    struct compiled compiled[COMPILED_MAX];
    uint64_t uses;
};

struct store_row {
    sqlite3_stmt *statement;
};

static int store_error(struct store *store, struct err *err, const char *what)
{
    int code = sqlite3_extended_errcode(store->db);
    enum err_class class = ERR_INTERNAL;
    if (code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY || code == SQLITE_CONSTRAINT_ROWID)
        class = ERR_CONFLICT;
    else if ((code & 0xff) == SQLITE_FULL)
        class = ERR_RESOURCE_EXHAUSTED;
    else if ((code & 0xff) == SQLITE_BUSY)
        class = ERR_UNAVAILABLE;
    return err_set(err, class, "store: %.80s: %s", what, sqlite3_errmsg(store->db));
}

// ---- compiled statements --------------------------------------------------------------------------------------------

static uint32_t hash_of(const char *sql)
{
    uint32_t hash = 2166136261u;
    for (const char *at = sql; *at; at++)
        hash = (hash ^ (unsigned char)*at) * 16777619u;
    return hash;
}

static sqlite3_stmt *take_statement(struct store *store, const char *sql, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    uint32_t hash = hash_of(sql);
    for (size_t i = 0; i < COMPILED_MAX; i++) {
        struct compiled *place = &store->compiled[i];
        if (place->statement && place->hash == hash && str_eq(sqlite3_sql(place->statement), sql))
            return take_ptr(&place->statement);
    }
    if (sqlite3_prepare_v3(store->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) != SQLITE_OK)
        store_error(store, err, sql);
    return statement;
}

static void keep_statement(struct store *store, sqlite3_stmt *statement)
{
    struct compiled *place = store->compiled;
    for (size_t i = 1; i < COMPILED_MAX && place->statement; i++)
        if (!store->compiled[i].statement || store->compiled[i].used < place->used)
            place = &store->compiled[i];
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    sqlite3_finalize(place->statement);
    *place = (struct compiled){ statement, hash_of(sqlite3_sql(statement)), ++store->uses };
}

// One without values and rows.
static int run_kept(struct store *store, const char *sql, struct err *err)
{
    sqlite3_stmt *statement = take_statement(store, sql, err);
    if (!statement)
        return -1;
    int result = sqlite3_step(statement) == SQLITE_DONE ? 0 : store_error(store, err, sql);
    keep_statement(store, statement);
    return result;
}

static int run(struct store *store, const char *sql, struct err *err)
{
    return sqlite3_exec(store->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : store_error(store, err, sql);
}

// SQLite's own waiting does not hold here: the change of a file that another process just makes, too, fails at once.
static int use_wal(struct store *store, struct err *err)
{
    const struct timespec pause = { .tv_nsec = WAL_RETRY_MS * 1000000L };
    for (int waited_ms = 0; waited_ms < BUSY_TIMEOUT_MS; waited_ms += WAL_RETRY_MS) {
        int code = sqlite3_exec(store->db, "PRAGMA journal_mode=WAL", NULL, NULL, NULL);
        if ((code & 0xff) != SQLITE_BUSY)
            return code == SQLITE_OK ? 0 : store_error(store, err, "journal_mode=WAL");
        nanosleep(&pause, NULL);
    }
    return run(store, "PRAGMA journal_mode=WAL", err);
}

// ---- room on the disk -----------------------------------------------------------------------------------------------

static void reserve(struct store *store)
{
    _cleanup_close_ int fd = store->reserved ? -1 : open(store->reserve, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return;
    store->reserved = posix_fallocate(fd, 0, RESERVE_SIZE) == 0;
    if (!store->reserved)
        unlink(store->reserve);
}

bool store_make_room(struct store *store)
{
    mutex_lock(&store->lock);
    bool had = store->reserved && unlink(store->reserve) == 0;
    store->reserved = false;
    mutex_unlock(&store->lock);
    return had;
}

int store_open(const char *path, struct store **out, struct err *err)
{
    struct store *store = mem_new(struct store);
    mutex_init(&store->lock, STORE_LOCK_RANK);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(path, &store->db, flags, NULL) != SQLITE_OK) {
        err_set(err, ERR_INTERNAL, "store: %s: %s", path, store->db ? sqlite3_errmsg(store->db) : "out of memory");
        store_close(store);
        return -1;
    }
    sqlite3_busy_timeout(store->db, BUSY_TIMEOUT_MS);
    if (chmod(path, 0600) < 0 || use_wal(store, err) < 0 ||
        run(store, "PRAGMA synchronous=NORMAL", err) < 0 || run(store, "PRAGMA foreign_keys=ON", err) < 0 ||
        run(store, "CREATE TABLE IF NOT EXISTS store_migrations(room TEXT PRIMARY KEY, version INTEGER NOT NULL)", err) < 0) {
        err_wrap(err, "%s", path);
        store_close(store);
        return -1;
    }
    store->reserve = mem_printf("%s-reserve", path);
    reserve(store);
    *out = store;
    return 0;
}

void store_close(struct store *store)
{
    if (!store)
        return;
    for (size_t i = 0; i < COMPILED_MAX; i++)
        sqlite3_finalize(store->compiled[i].statement);
    sqlite3_close_v2(store->db);
    mutex_done(&store->lock);
    free(store->reserve);
    free(store);
}

// ---- transactions ---------------------------------------------------------------------------------------------------

#if defined(__clang__)
#define HOLDS_ACROSS __attribute__((no_thread_safety_analysis)) // begin takes the lock, commit and rollback release it
#else
#define HOLDS_ACROSS
#endif

static bool is_mine(struct store *store)
{
    return atomic_load_explicit(&store->owner, memory_order_relaxed) == gettid();
}

HOLDS_ACROSS int store_begin(struct store *store, struct err *err)
{
    if (is_mine(store))
        return err_set(err, ERR_INTERNAL, "store: a transaction is open already");
    mutex_lock(&store->lock);
    if (run_kept(store, "BEGIN IMMEDIATE", err) < 0) {
        mutex_unlock(&store->lock);
        return -1;
    }
    atomic_store_explicit(&store->owner, gettid(), memory_order_relaxed);
    return 0;
}

static bool is_disk_full(const struct store *store)
{
    struct statvfs disk;
    return statvfs(store->reserve, &disk) == 0 && disk.f_bavail * disk.f_frsize < RESERVE_SIZE;
}

int store_begin_removal(struct store *store, struct err *err)
{
    if (!is_mine(store) && is_disk_full(store))
        store_make_room(store);
    return store_begin(store, err);
}

HOLDS_ACROSS static void end(struct store *store)
{
    atomic_store_explicit(&store->owner, 0, memory_order_relaxed);
    mutex_unlock(&store->lock);
}

int store_commit(struct store *store, struct err *err)
{
    if (!is_mine(store))
        return err_set(err, ERR_INTERNAL, "store: no transaction is open");
    if (run_kept(store, "COMMIT", err) < 0) {
        store_rollback(store);
        return -1;
    }
    reserve(store); // after what may have freed something
    end(store);
    return 0;
}

void store_rollback(struct store *store)
{
    if (!is_mine(store))
        return;
    sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    end(store);
}

// ---- statements -----------------------------------------------------------------------------------------------------

static int bind(struct store *store, sqlite3_stmt *statement, const char *types, va_list args, struct err *err)
{
    if ((size_t)sqlite3_bind_parameter_count(statement) != strlen(types))
        return err_set(err, ERR_INTERNAL, "store: %.80s: %zu values given", sqlite3_sql(statement), strlen(types));
    for (int i = 0; types[i]; i++) {
        int code = SQLITE_MISUSE;
        if (types[i] == 't') {
            const char *text = va_arg(args, const char *);
            code = sqlite3_bind_text(statement, i + 1, text, -1, SQLITE_TRANSIENT);
        } else if (types[i] == 'i') {
            code = sqlite3_bind_int64(statement, i + 1, va_arg(args, int64_t));
        } else if (types[i] == 'b') {
            const void *data = va_arg(args, const void *);
            code = sqlite3_bind_blob64(statement, i + 1, data, va_arg(args, size_t), SQLITE_TRANSIENT);
        }
        if (code != SQLITE_OK)
            return store_error(store, err, sqlite3_sql(statement));
    }
    return 0;
}

static int step_all(struct store *store, sqlite3_stmt *statement, store_row_fn *fn, void *context, struct err *err)
{
    struct store_row row = { statement };
    int code;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW)
        if (fn && fn(context, &row, err) < 0)
            return -1;
    return code == SQLITE_DONE ? 0 : store_error(store, err, sqlite3_sql(statement));
}

static int execute(struct store *store, store_row_fn *fn, void *context, const char *sql, const char *types, va_list args,
                   struct err *err)
{
    sqlite3_stmt *statement = take_statement(store, sql, err);
    if (!statement)
        return -1;
    int result = bind(store, statement, types, args, err);
    if (result == 0)
        result = step_all(store, statement, fn, context, err);
    keep_statement(store, statement);
    return result;
}

int store_exec(struct store *store, struct err *err, const char *sql, const char *types, ...)
{
    if (!is_mine(store))
        return err_set(err, ERR_INTERNAL, "store: no transaction is open: %.80s", sql);
    va_list args;
    va_start(args, types);
    int result = execute(store, NULL, NULL, sql, types, args, err);
    va_end(args);
    return result;
}

HOLDS_ACROSS int store_query(struct store *store, struct err *err, store_row_fn *fn, void *context, const char *sql,
                             const char *types, ...)
{
    bool mine = is_mine(store);
    if (!mine)
        mutex_lock(&store->lock);
    va_list args;
    va_start(args, types);
    int result = execute(store, fn, context, sql, types, args, err);
    va_end(args);
    if (!mine)
        mutex_unlock(&store->lock);
    return result;
}

const char *store_text(const struct store_row *row, int column)
{
    return (const char *)sqlite3_column_text(row->statement, column);
}

int64_t store_int(const struct store_row *row, int column)
{
    return sqlite3_column_int64(row->statement, column);
}

// ---- migrations -----------------------------------------------------------------------------------------------------

static int take_version(void *context, const struct store_row *row, struct err *err)
{
    *(int64_t *)context = store_int(row, 0);
    return 0;
}

static int migrate(struct store *store, const char *room, const char *const *migrations, size_t len, struct err *err)
{
    int64_t version = 0;
    if (store_query(store, err, take_version, &version, "SELECT version FROM store_migrations WHERE room = ?", "t", room) < 0)
        return -1;
    if (version < 0 || (uint64_t)version > len)
        return err_set(err, ERR_INVALID_ARGUMENT, "store: the tables of %s are from a later version of Berth", room);
    for (size_t i = (size_t)version; i < len; i++)
        if (run(store, migrations[i], err) < 0)
            return err_wrap(err, "migration %zu of %s", i + 1, room);
    return store_exec(store, err, "INSERT OR REPLACE INTO store_migrations(room, version) VALUES(?, ?)", "ti", room,
                      (int64_t)len);
}

int store_migrate(struct store *store, const char *room, const char *const *migrations, size_t len, struct err *err)
{
    if (store_begin(store, err) < 0)
        return -1;
    if (migrate(store, room, migrations, len, err) < 0) {
        store_rollback(store);
        return -1;
    }
    return store_commit(store, err);
}
