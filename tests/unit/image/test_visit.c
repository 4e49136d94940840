// Several at one store: what a visitor sees and leaves alone, and what two that want the same do.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fixture.h"

struct visitor {
    struct store *store;
    struct image_store *images;
};

static void visit(struct box *box, struct visitor *out)
{
    const struct image_store_config config = { .root_fd = box->root_fd, .state_fd = -1, .driver = box->driver };
    out->store = data_root_store(box->root);
    OK(box, image_store_open(out->store, &config, &out->images, &box->err));
}

static void leave(struct visitor *visitor)
{
    image_store_close(visitor->images);
    store_close(visitor->store);
}

static bool is_there(const struct box *box, const char *name)
{
    _cleanup_free_ char *path = mem_printf("staging/%s", name);
    return faccessat(box->root_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void test_staging_of_another_stays(void **state)
{
    struct box *box = *state;
    struct visitor visitor;
    char *name;
    visit(box, &visitor);
    fd_close(image_staging_new(box->images, &name, &box->err));
    OK(box, image_store_collect(visitor.images, &box->err));
    assert_true(is_there(box, name));
    // Its owner is gone, and it is nobody's.
    box_close(box);
    OK(box, image_store_collect(visitor.images, &box->err));
    assert_false(is_there(box, name));
    leave(&visitor);
    box_open(box);
    free(name);
}

static void test_a_daemon_that_starts_spares_visitors(void **state)
{
    struct box *box = *state;
    struct visitor visitor;
    char *name;
    visit(box, &visitor);
    fd_close(image_staging_new(visitor.images, &name, &box->err));
    box_reopen(box);
    assert_true(is_there(box, name));
    image_staging_remove(visitor.images, name);
    assert_false(is_there(box, name));
    leave(&visitor);
    free(name);
}

static void test_one_pulls(void **state)
{
    struct box *box = *state;
    struct visitor visitor;
    const struct cancel never = CANCEL_NEVER;
    visit(box, &visitor);
    int first = image_pull_turn(box->images, "a:1", &never, &box->err), other = image_pull_turn(visitor.images, "a:2", &never, &box->err);
    assert_true(first >= 0 && other >= 0);
    int ends[2];
    OK(box, fd_pipe(ends, &box->err));
    assert_int_equal(write(ends[1], "", 1), 1);
    const struct cancel at_once = { .fd = -1, .event_fd = ends[0] };
    struct err err = { 0 };
    assert_int_equal(image_pull_turn(visitor.images, "a:1", &at_once, &err), -1);
    assert_int_equal(err.class, ERR_CANCELLED);
    fd_close(first);
    first = image_pull_turn(visitor.images, "a:1", &never, &box->err);
    assert_true(first >= 0);
    fd_close(first);
    fd_close(other);
    fd_close(ends[0]);
    fd_close(ends[1]);
    leave(&visitor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_staging_of_another_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_daemon_that_starts_spares_visitors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_pulls, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
