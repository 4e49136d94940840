// What the tests of the rooms that keep records share: a temporary data root, and the store in it.
#ifndef TEST_DATA_ROOT_H
#define TEST_DATA_ROOT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>

#include "base/file.h"
#include "store/store.h"

#define DATA_ROOT_SIZE 48

// A call that must go well; `box` has the error object it was given.
#define OK(box, call)                       \
    do {                                    \
        if ((call) < 0)                     \
            fail_msg("%s", (box)->err.message); \
    } while (0)

static inline int data_root_make(char root[DATA_ROOT_SIZE], const char *room)
{
    snprintf(root, DATA_ROOT_SIZE, "/tmp/berth-%s-XXXXXX", room);
    assert_non_null(mkdtemp(root));
    int fd = file_open_dir(AT_FDCWD, root, NULL);
    assert_true(fd >= 0);
    return fd;
}

static inline void data_root_remove(const char *root, int fd)
{
    fd_close(fd);
    file_remove_tree(AT_FDCWD, root, NULL);
}

static inline void data_root_path(const char *root, char path[DATA_ROOT_SIZE + 16])
{
    snprintf(path, DATA_ROOT_SIZE + 16, "%s/berth.db", root);
}

static inline struct store *data_root_store(const char *root)
{
    char path[DATA_ROOT_SIZE + 16];
    struct store *store = NULL;
    struct err err = { 0 };
    data_root_path(root, path);
    if (store_open(path, &store, &err) < 0)
        fail_msg("%s", err.message);
    return store;
}

#endif
