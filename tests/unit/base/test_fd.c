#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/file.h"

static bool is_cloexec(int fd)
{
    return fcntl(fd, F_GETFD) & FD_CLOEXEC;
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void ownership(void **state)
{
    int pipe_fds[2], kept;
    assert_int_equal(fd_pipe(pipe_fds, NULL), 0);
    assert_true(is_cloexec(pipe_fds[0]) && is_cloexec(pipe_fds[1]));
    {
        _cleanup_close_ int closes = pipe_fds[0], moves = pipe_fds[1];
        kept = take_fd(&moves);
        assert_int_equal(moves, -1);
        (void)closes;
    }
    assert_false(is_open(pipe_fds[0]));
    assert_true(is_open(kept));
    errno = E2BIG;
    fd_close(kept);
    fd_close(kept); // fails, and leaves errno alone
    fd_close(-1);
    assert_int_equal(errno, E2BIG);
}

static void copies_are_above_the_standard_ones(void **state)
{
    struct err err;
    int copy = fd_dup(STDERR_FILENO, &err);
    assert_true(copy >= 3 && is_cloexec(copy));
    fd_close(copy);
    assert_int_equal(fd_dup(12345, &err), -1);
    assert_int_equal(err.number, EBADF);
}

// ---- exact reads and writes -----------------------------------------------------------------------------------------

enum { BULK = 300000 }; // more than a pipe holds

static void *write_bulk(void *context)
{
    char *bulk = mem_alloc(BULK);
    for (size_t i = 0; i < BULK; i++)
        bulk[i] = (char)(i * 7);
    int result = fd_write_full(*(int *)context, bulk, BULK, NULL);
    fd_close(*(int *)context);
    free(bulk);
    return (void *)(intptr_t)result;
}

static void whole_through_a_nonblocking_pipe(void **state)
{
    int fds[2];
    void *result;
    pthread_t writer;
    _cleanup_free_ char *got = mem_alloc(BULK + 10);
    assert_int_equal(fd_pipe(fds, NULL), 0);
    assert_int_equal(fd_set_nonblock(fds[0], true, NULL), 0);
    assert_int_equal(fd_set_nonblock(fds[1], true, NULL), 0);
    assert_int_equal(pthread_create(&writer, NULL, write_bulk, &fds[1]), 0);
    assert_int_equal(fd_read_full(fds[0], got, BULK + 10, NULL), BULK); // ends early at the end
    assert_int_equal(fd_read_full(fds[0], got, 1, NULL), 0);
    pthread_join(writer, &result);
    assert_int_equal((intptr_t)result, 0);
    for (size_t i = 0; i < BULK; i += 997)
        assert_int_equal(got[i], (char)(i * 7));
    assert_int_equal(fd_set_nonblock(fds[0], false, NULL), 0);
    assert_false(fcntl(fds[0], F_GETFL) & O_NONBLOCK);
    fd_close(fds[0]);
}

static void broken_pipe_is_no_signal(void **state)
{
    int fds[2];
    struct err err;
    signal(SIGPIPE, SIG_DFL); // a signal would end this program
    assert_int_equal(fd_pipe(fds, NULL), 0);
    fd_close(fds[0]);
    assert_int_equal(fd_write_full(fds[1], "x", 1, &err), -1);
    assert_int_equal(err.number, EPIPE);
    fd_close(fds[1]);
    assert_int_equal(fd_socketpair(SOCK_STREAM, fds, NULL), 0);
    fd_close(fds[0]);
    assert_int_equal(fd_write_full(fds[1], "x", 1, &err), -1);
    assert_int_equal(err.number, EPIPE);
    fd_close(fds[1]);
    sigset_t pending, mask;
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    assert_false(sigismember(&pending, SIGPIPE));
    assert_false(sigismember(&mask, SIGPIPE));
}

// ---- messages -------------------------------------------------------------------------------------------------------

static void descriptors_travel(void **state)
{
    int ends[2], sent[FD_MESSAGE_MAX + 1], got[FD_MESSAGE_MAX];
    struct err err;
    char data[8];
    assert_int_equal(fd_socketpair(SOCK_SEQPACKET, ends, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(sent); i++)
        sent[i] = STDERR_FILENO;
    static const size_t lens[] = { 0, 1, 3, FD_MESSAGE_MAX };
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        size_t len = FD_MESSAGE_MAX;
        struct stat here, there;
        assert_int_equal(fd_send(ends[0], "hello", 5, sent, lens[i], &err), 5);
        assert_int_equal(fd_recv(ends[1], data, sizeof(data), got, &len, &err), 5);
        assert_int_equal(len, lens[i]);
        for (size_t k = 0; k < len; k++) {
            assert_true(is_cloexec(got[k]));
            assert_true(fstat(got[k], &there) == 0 && fstat(STDERR_FILENO, &here) == 0 && here.st_ino == there.st_ino);
            fd_close(got[k]);
        }
    }
    assert_int_equal(fd_send(ends[0], "x", 1, sent, FD_MESSAGE_MAX + 1, &err), -1);
    assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    size_t len = FD_MESSAGE_MAX;
    fd_close(ends[0]);
    assert_int_equal(fd_recv(ends[1], data, sizeof(data), got, &len, &err), 0);
    assert_int_equal(len, 0);
    fd_close(ends[1]);
}

static void surplus_descriptors_are_closed(void **state)
{
    int ends[2], got[2];
    const int sent[] = { 2, 2, 2, 2, 2 };
    char data;
    size_t len = ARRAY_LEN(got);
    assert_int_equal(fd_socketpair(SOCK_STREAM, ends, NULL), 0);
    int next = fd_dup(2, NULL);
    fd_close(next);
    assert_int_equal(fd_send(ends[0], "x", 1, sent, ARRAY_LEN(sent), NULL), 1);
    assert_int_equal(fd_recv(ends[1], &data, 1, got, &len, NULL), 1);
    assert_int_equal(len, 2);
    fd_close(got[0]);
    fd_close(got[1]);
    int again = fd_dup(2, NULL);
    assert_int_equal(again, next); // nothing stayed open
    fd_close(again);
    fd_close(ends[0]);
    fd_close(ends[1]);
}

static void lost_descriptors_are_an_error(void **state)
{
    int ends[2], got[8];
    const int sent[] = { 2, 2, 2, 2 };
    size_t len = ARRAY_LEN(got);
    struct err err;
    struct rlimit old, tight;
    char data;
    assert_int_equal(fd_socketpair(SOCK_STREAM, ends, NULL), 0);
    assert_int_equal(fd_send(ends[0], "x", 1, sent, ARRAY_LEN(sent), NULL), 1);
    int next = fd_dup(2, NULL);
    fd_close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    tight = (struct rlimit){ (rlim_t)next + 2, old.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    ssize_t n = fd_recv(ends[1], &data, 1, got, &len, &err);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(n, -1);
    assert_int_equal(err.class, ERR_RESOURCE_EXHAUSTED);
    assert_int_equal(len, 0);
    int again = fd_dup(2, NULL);
    assert_int_equal(again, next);
    fd_close(again);
    fd_close(ends[0]);
    fd_close(ends[1]);
}

// ---- sealed copies --------------------------------------------------------------------------------------------------

static void sealed_copy_runs_and_cannot_change(void **state)
{
    struct err err;
    _cleanup_close_ int copy = fd_sealed_copy("/bin/true", &err);
    assert_true(copy >= 0 && is_cloexec(copy));
    struct stat original, info;
    assert_int_equal(stat("/bin/true", &original), 0);
    assert_int_equal(fstat(copy, &info), 0);
    assert_int_equal(info.st_size, original.st_size);
    int seals = fcntl(copy, F_GET_SEALS);
    assert_int_equal(seals & (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
                     F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    assert_int_equal(pwrite(copy, "x", 1, 0), -1);
    assert_int_equal(ftruncate(copy, 0), -1);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char *const argv[] = { (char *)"true", NULL };
        fexecve(copy, argv, argv + 1);
        _exit(99);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(fd_sealed_copy("/no/such/file", &err), -1);
    assert_int_equal(err.class, ERR_NOT_FOUND);
    assert_int_equal(fd_sealed_copy("/", &err), -1);
}

// ---- unix sockets ---------------------------------------------------------------------------------------------------

static void socket_below_a_long_path(void **state)
{
    char folder[] = "/tmp/berth-fd-XXXXXX", name[] = "task", long_name[200];
    struct err err;
    assert_non_null(mkdtemp(folder));
    // Deeper than sockaddr_un can say.
    _cleanup_free_ char *deep = mem_printf("%s/%0100d/%0100d", folder, 1, 2);
    assert_int_equal(file_mkdirs(AT_FDCWD, deep, 0700, &err), 0);
    _cleanup_close_ int dir = file_open_dir(AT_FDCWD, deep, &err);
    assert_true(dir >= 0);

    for (int round = 0; round < 2; round++) { // the second replaces the socket that the first left
        _cleanup_close_ int listener = fd_unix_listen_at(dir, name, &err);
        assert_true(listener >= 0 && is_cloexec(listener));
        struct stat info;
        assert_int_equal(fstatat(dir, name, &info, 0), 0);
        assert_true(S_ISSOCK(info.st_mode));
        assert_int_equal(info.st_mode & 07777, 0600);
        _cleanup_close_ int client = fd_unix_connect_at(dir, name, &err);
        assert_true(client >= 0 && is_cloexec(client));
        _cleanup_close_ int server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        char data[3];
        assert_int_equal(fd_write_full(client, "abc", 3, &err), 0);
        assert_int_equal(fd_read_full(server, data, 3, &err), 3);
        assert_memory_equal(data, "abc", 3);
    }
    assert_int_equal(fd_unix_connect_at(dir, name, &err), -1); // nobody listens any more
    assert_int_equal(err.number, ECONNREFUSED);
    assert_int_equal(fd_unix_connect_at(dir, "other", &err), -1);
    assert_int_equal(err.class, ERR_NOT_FOUND);
    memset(long_name, 'n', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = 0;
    assert_int_equal(fd_unix_listen_at(dir, long_name, &err), -1);
    assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    assert_int_equal(file_remove_tree(AT_FDCWD, folder, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ownership),
        cmocka_unit_test(copies_are_above_the_standard_ones),
        cmocka_unit_test(whole_through_a_nonblocking_pipe),
        cmocka_unit_test(broken_pipe_is_no_signal),
        cmocka_unit_test(descriptors_travel),
        cmocka_unit_test(surplus_descriptors_are_closed),
        cmocka_unit_test(lost_descriptors_are_an_error),
        cmocka_unit_test(sealed_copy_runs_and_cannot_change),
        cmocka_unit_test(socket_below_a_long_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
