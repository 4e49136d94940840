#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "unit/data_root.h"

struct box {
    char root[DATA_ROOT_SIZE];
    char path[DATA_ROOT_SIZE + 16];
    int root_fd;
    struct store *store;
    struct err err;
};

static const char *const people[] = {
    "CREATE TABLE people(name TEXT PRIMARY KEY, age INTEGER, photo BLOB, email TEXT UNIQUE)",
    "INSERT INTO people(name, age) VALUES('first', 1); INSERT INTO people(name, age) VALUES('second', 2);",
};

static int setup(void **state)
{
    struct box *box = mem_new(struct box);
    box->root_fd = data_root_make(box->root, "store");
    data_root_path(box->root, box->path);
    box->store = data_root_store(box->root);
    OK(box, store_migrate(box->store, "people", people, ARRAY_LEN(people), &box->err));
    *state = box;
    return 0;
}

static int teardown(void **state)
{
    struct box *box = *state;
    store_close(box->store);
    data_root_remove(box->root, box->root_fd);
    free(box);
    return 0;
}

static int take_int(void *context, const struct store_row *row, struct err *err)
{
    *(int64_t *)context = store_int(row, 0);
    return 0;
}

static int64_t count(struct box *box)
{
    int64_t number = -1;
    OK(box, store_query(box->store, &box->err, take_int, &number, "SELECT COUNT(*) FROM people", ""));
    return number;
}

static void migrations_run_once(void **state)
{
    struct box *box = *state;
    static const char *const longer[] = { "x is not read again", "nor this", "ALTER TABLE people ADD COLUMN shoe INTEGER" };
    OK(box, store_migrate(box->store, "people", people, ARRAY_LEN(people), &box->err));
    assert_int_equal(count(box), 2);
    OK(box, store_migrate(box->store, "people", longer, ARRAY_LEN(longer), &box->err));
    OK(box, store_migrate(box->store, "people", longer, ARRAY_LEN(longer), &box->err));
    store_close(box->store);
    box->store = NULL;
    OK(box, store_open(box->path, &box->store, &box->err));
    OK(box, store_migrate(box->store, "people", longer, ARRAY_LEN(longer), &box->err));
    assert_int_equal(count(box), 2);
    // An older program meets newer tables.
    assert_int_equal(store_migrate(box->store, "people", people, ARRAY_LEN(people), &box->err), -1);
    assert_non_null(strstr(box->err.message, "later version"));
}

static void a_failed_migration_leaves_nothing(void **state)
{
    struct box *box = *state;
    static const char *const broken[] = { "CREATE TABLE pets(name TEXT)", "INSERT INTO nowhere VALUES(1)" };
    static const char *const mended[] = { "CREATE TABLE pets(name TEXT)" };
    assert_int_equal(store_migrate(box->store, "pets", broken, ARRAY_LEN(broken), &box->err), -1);
    assert_non_null(strstr(box->err.message, "migration 2 of pets"));
    OK(box, store_migrate(box->store, "pets", mended, ARRAY_LEN(mended), &box->err));
}

struct person {
    char name[16], email[16];
    bool no_email;
    int64_t age;
};

static int take_person(void *context, const struct store_row *row, struct err *err)
{
    struct person *person = context;
    snprintf(person->name, sizeof(person->name), "%s", store_text(row, 0));
    person->age = store_int(row, 1);
    person->no_email = store_text(row, 2) == NULL;
    return 0;
}

static void values_come_back(void **state)
{
    struct box *box = *state;
    struct person person;
    int64_t size = 0;
    static const char photo[] = { 0, 1, 2, 3, 0 };
    OK(box, store_begin(box->store, &box->err));
    OK(box, store_exec(box->store, &box->err, "INSERT INTO people(name, age, photo, email) VALUES(?, ?, ?, ?)", "tibt",
                       "'; --", INT64_MIN, (const void *)photo, sizeof(photo), NULL));
    OK(box, store_commit(box->store, &box->err));
    OK(box, store_query(box->store, &box->err, take_person, &person,
                        "SELECT name, age, email FROM people WHERE name = ? AND age = ?", "ti", "'; --", INT64_MIN));
    assert_string_equal(person.name, "'; --");
    assert_true(person.age == INT64_MIN && person.no_email);
    OK(box, store_query(box->store, &box->err, take_int, &size, "SELECT length(photo) FROM people WHERE photo NOT NULL", ""));
    assert_int_equal(size, sizeof(photo));
}

static void doubles_are_a_conflict(void **state)
{
    struct box *box = *state;
    static const char insert[] = "INSERT INTO people(name, email) VALUES(?, ?)";
    OK(box, store_begin(box->store, &box->err));
    assert_int_equal(store_exec(box->store, &box->err, insert, "tt", "first", NULL), -1);
    assert_int_equal(box->err.class, ERR_CONFLICT);
    OK(box, store_exec(box->store, &box->err, insert, "tt", "third", "a@b"));
    assert_int_equal(store_exec(box->store, &box->err, insert, "tt", "fourth", "a@b"), -1);
    assert_int_equal(box->err.class, ERR_CONFLICT);
    // The transaction goes on.
    OK(box, store_commit(box->store, &box->err));
    assert_int_equal(count(box), 3);
}

static void insert(struct box *box, const char *name)
{
    OK(box, store_exec(box->store, &box->err, "INSERT INTO people(name) VALUES(?)", "t", name));
}

static void rollback_takes_back(void **state)
{
    struct box *box = *state;
    store_rollback(box->store);
    OK(box, store_begin(box->store, &box->err));
    insert(box, "third");
    assert_int_equal(count(box), 3);
    // A second one is refused and costs the first nothing.
    assert_int_equal(store_begin(box->store, &box->err), -1);
    assert_int_equal(box->err.class, ERR_INTERNAL);
    insert(box, "fourth");
    store_rollback(box->store);
    store_rollback(box->store);
    assert_int_equal(count(box), 2);
    assert_int_equal(store_commit(box->store, &box->err), -1);
    OK(box, store_begin(box->store, &box->err));
    insert(box, "third");
    OK(box, store_commit(box->store, &box->err));
    assert_int_equal(count(box), 3);
}

static void wrong_use_is_an_error(void **state)
{
    struct box *box = *state;
    assert_int_equal(store_exec(box->store, &box->err, "DELETE FROM people", ""), -1); // no transaction
    OK(box, store_begin(box->store, &box->err));
    assert_int_equal(store_exec(box->store, &box->err, "DELETE FROM people WHERE name = ?", ""), -1);
    assert_int_equal(store_exec(box->store, &box->err, "DELETE FROM people", "i", INT64_C(1)), -1);
    assert_int_equal(store_exec(box->store, &box->err, "DELETE FROM", ""), -1);
    assert_int_equal(box->err.class, ERR_INTERNAL);
    OK(box, store_commit(box->store, &box->err));
    assert_int_equal(count(box), 2);
}

static int stop_at_once(void *context, const struct store_row *row, struct err *err)
{
    (*(int *)context)++;
    return err_set(err, ERR_CANCELLED, "enough");
}

static void a_callback_can_stop(void **state)
{
    struct box *box = *state;
    int rows = 0;
    assert_int_equal(store_query(box->store, &box->err, stop_at_once, &rows, "SELECT name FROM people", ""), -1);
    assert_int_equal(box->err.class, ERR_CANCELLED);
    assert_int_equal(rows, 1);
    assert_int_equal(count(box), 2);
}

struct nested {
    struct box *box;
    unsigned depth;
    int64_t rows;
};

// Statements stay compiled between calls: one that is running is not the one that its own rows ask.
static int ask_again(void *context, const struct store_row *row, struct err *err)
{
    struct nested *nested = context;
    nested->rows++;
    if (nested->depth == 3)
        return 0;
    nested->depth++;
    int done = store_query(nested->box->store, err, ask_again, nested, "SELECT name FROM people WHERE age > ?", "i", (int64_t)0);
    nested->depth--;
    return done;
}

static void the_same_query_inside_of_itself(void **state)
{
    struct box *box = *state;
    struct nested nested = { .box = box };
    OK(box, store_begin(box->store, &box->err)); // a query outside of one holds the lock
    OK(box, store_query(box->store, &box->err, ask_again, &nested, "SELECT name FROM people WHERE age > ?", "i", (int64_t)0));
    OK(box, store_commit(box->store, &box->err));
    assert_int_equal(nested.rows, 2 + 4 + 8 + 16);
}

// One that failed, or was left in the middle, or whose table has changed since, is as good as new.
static void statements_may_be_used_again(void **state)
{
    static const char *const more[] = { "", "", "ALTER TABLE people ADD COLUMN shoe INTEGER DEFAULT 42" };
    struct box *box = *state;
    int rows = 0;
    for (int i = 0; i < 3; i++) {
        OK(box, store_begin(box->store, &box->err));
        assert_int_equal(store_exec(box->store, &box->err, "INSERT INTO people(name) VALUES(?)", "t", "first"), -1);
        OK(box, store_exec(box->store, &box->err, "INSERT INTO people(name) VALUES(?)", "t", "third"));
        store_rollback(box->store);
        assert_int_equal(store_query(box->store, &box->err, stop_at_once, &rows, "SELECT * FROM people", ""), -1);
    }
    OK(box, store_migrate(box->store, "people", more, ARRAY_LEN(more), &box->err));
    assert_int_equal(store_query(box->store, &box->err, stop_at_once, &rows, "SELECT * FROM people", ""), -1);
    assert_int_equal(count(box), 2);
    for (int i = 0; i < 300; i++) { // more than are kept
        _cleanup_free_ char *sql = mem_printf("SELECT age + %d FROM people WHERE name = 'second'", i);
        int64_t found = 0;
        OK(box, store_query(box->store, &box->err, take_int, &found, sql, ""));
        assert_int_equal(found, 2 + i);
    }
}

static void only_the_owner_can_read_it(void **state)
{
    struct box *box = *state;
    struct stat info;
    assert_int_equal(stat(box->path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

enum { ROUNDS = 200 };

static void *add_many(void *context)
{
    struct box *box = context;
    struct err err = { 0 };
    for (int i = 0; i < ROUNDS; i++) {
        int64_t age = -1;
        // Read, then write what was read: lost updates would show.
        if (store_begin(box->store, &err) < 0 ||
            store_query(box->store, &err, take_int, &age, "SELECT age FROM people WHERE name = 'first'", "") < 0 ||
            store_exec(box->store, &err, "UPDATE people SET age = ? WHERE name = 'first'", "i", age + 1) < 0)
            return (void *)"failed";
        if (i % 10 == 9)
            store_rollback(box->store);
        else if (store_commit(box->store, &err) < 0)
            return (void *)"failed";
        store_query(box->store, &err, take_int, &age, "SELECT age FROM people WHERE name = 'first'", "");
    }
    return NULL;
}

static void threads_take_turns(void **state)
{
    struct box *box = *state;
    pthread_t threads[4];
    int64_t age = 0;
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, box), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        void *failure;
        pthread_join(threads[i], &failure);
        assert_null(failure);
    }
    OK(box, store_query(box->store, &box->err, take_int, &age, "SELECT age FROM people WHERE name = 'first'", ""));
    assert_int_equal(age, 1 + (int)ARRAY_LEN(threads) * ROUNDS * 9 / 10);
}

// A process that dies inside a transaction, without any farewell: the store is as before it.
static void a_dead_process_leaves_no_half_verb(void **state)
{
    struct box *box = *state;
    store_close(box->store);
    box->store = NULL;
    pid_t child = fork();
    if (child == 0) {
        struct err err;
        struct store *store;
        if (store_open(box->path, &store, &err) < 0 || store_begin(store, &err) < 0 ||
            store_exec(store, &err, "INSERT INTO people(name) VALUES('kept')", "") < 0 || store_commit(store, &err) < 0 ||
            store_begin(store, &err) < 0 || store_exec(store, &err, "DELETE FROM people", "") < 0)
            _exit(1);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    OK(box, store_open(box->path, &box->store, &box->err));
    assert_int_equal(count(box), 3);
}

static void fill(const char *path)
{
    static const char zeros[4096];
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    while (write(fd, zeros, sizeof(zeros)) > 0)
        ;
    assert_int_equal(errno, ENOSPC);
    close(fd);
}

static int forget_all(struct box *box)
{
    if (store_begin(box->store, &box->err) < 0)
        return -1;
    if (store_exec(box->store, &box->err, "UPDATE people SET photo = zeroblob(200000)", "") < 0 ||
        store_exec(box->store, &box->err, "DELETE FROM people", "") < 0) {
        store_rollback(box->store);
        return -1;
    }
    return store_commit(box->store, &box->err);
}

// What frees something needs a little of a full disk first.
static void a_full_disk_has_a_reserve(void **state)
{
    struct box *box = *state;
    char path[sizeof(box->root) + 16], filler[sizeof(box->root) + 16];
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("small", box->root, "tmpfs", 0, "size=4m") < 0) {
        print_message("skipped: mounts need root\n");
        skip();
    }
    store_close(box->store);
    snprintf(path, sizeof(path), "%s/small.db", box->root);
    snprintf(filler, sizeof(filler), "%s/filler", box->root);
    OK(box, store_open(path, &box->store, &box->err));
    OK(box, store_migrate(box->store, "people", people, ARRAY_LEN(people), &box->err));
    fill(filler);
    assert_int_equal(forget_all(box), -1);
    assert_int_equal(box->err.class, ERR_RESOURCE_EXHAUSTED);
    assert_true(store_make_room(box->store));
    OK(box, forget_all(box));
    assert_int_equal(count(box), 0);
    assert_false(store_make_room(box->store)); // the disk is full still
    assert_int_equal(unlink(filler), 0);
    OK(box, forget_all(box));
    assert_true(store_make_room(box->store));
    store_close(box->store);
    box->store = NULL;
    assert_int_equal(umount(box->root), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(migrations_run_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_migration_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(values_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(doubles_are_a_conflict, setup, teardown),
        cmocka_unit_test_setup_teardown(rollback_takes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_use_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(a_callback_can_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(the_same_query_inside_of_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(statements_may_be_used_again, setup, teardown),
        cmocka_unit_test_setup_teardown(only_the_owner_can_read_it, setup, teardown),
        cmocka_unit_test_setup_teardown(threads_take_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(a_dead_process_leaves_no_half_verb, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_has_a_reserve, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
