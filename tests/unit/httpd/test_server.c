// A demo handler behind a real server on a unix socket, spoken to with raw bytes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/num.h"
#include "httpd/httpd.h"

#define BODY_MAX 100000

struct demo {
    struct httpd *httpd;
    char folder[32];
    int folder_fd;
    _Atomic int hijacked_fd, cancelled, uploaded;
};

// ---- the demo handler -----------------------------------------------------------------------------------------------

static void reply_text(struct httpd_request *request, const char *text)
{
    httpd_reply(request, 200, "text/plain", text, strlen(text));
}

static void count_upload(struct demo *demo, struct httpd_request *request, size_t stop_after)
{
    char piece[4096], text[32];
    size_t total = 0;
    ssize_t n;
    while (total < stop_after && (n = read(httpd_body_fd(request), piece, sizeof(piece))) > 0)
        total += (size_t)n;
    demo->uploaded = (int)total;
    demo->cancelled = cancel_now(httpd_cancel(request));
    snprintf(text, sizeof(text), "%zu", stop_after == SIZE_MAX ? total : stop_after);
    reply_text(request, text);
}

struct pieces {
    size_t at, max, size; // max: of all that is taken
    bool exact; // it says itself that it wants no more
};

static size_t take_piece(void *with, const char *data, size_t size, bool *more)
{
    struct pieces *pieces = with;
    size_t taken = MIN_OF(size, pieces->max - pieces->at);
    pieces->at += taken;
    *more = !pieces->exact || pieces->at < pieces->max;
    return taken;
}

// "/upload-offer?a=N": N bytes are taken before the pipe; "all" of them, or "none". "never": the handler wants nothing at all.
static void take_offer(struct demo *demo, struct httpd_request *request, const char *wish)
{
    char piece[4096], text[64];
    size_t piped = 0;
    ssize_t n;
    uint64_t max = SIZE_MAX;
    if (!str_eq(wish, "all") && *wish != 'n')
        num_parse_u64(slice_of(wish), SIZE_MAX, &max);
    struct pieces pieces = { .max = (size_t)max, .exact = max % 2 };
    if (!str_eq(wish, "never"))
        demo->cancelled = httpd_body_take(request, *wish == 'n' ? NULL : take_piece, &pieces, httpd_cancel(request), NULL) < 0;
    while (!str_eq(wish, "never") && (n = read(httpd_body_fd(request), piece, sizeof(piece))) > 0)
        piped += (size_t)n;
    demo->uploaded = (int)(pieces.at + piped);
    snprintf(text, sizeof(text), "%zu and %zu.", pieces.at, piped);
    reply_text(request, text);
}

static void echo_chunks(struct httpd_request *request)
{
    char piece[512];
    ssize_t n;
    httpd_stream_begin(request, 200, "text/plain");
    while ((n = read(httpd_body_fd(request), piece, sizeof(piece))) > 0)
        httpd_stream_write(request, piece, (size_t)n);
    httpd_stream_end(request);
}

static void stream_until_gone(struct demo *demo, struct httpd_request *request)
{
    int never[2];
    struct err err = { 0 };
    if (fd_pipe(never, &err) < 0 || httpd_stream_begin(request, 200, "text/plain") < 0)
        return;
    httpd_stream_write(request, "tick", 4);
    if (cancel_wait(httpd_cancel(request), never[0], -1, &err) < 0)
        demo->cancelled = err.class == ERR_CANCELLED;
    close(never[0]);
    close(never[1]);
}

// More than a pipe and a socket hold: the client's reading sets the pace.
#define SPLICED ((size_t)1 << 20)

static void splice_pipe(struct httpd_request *request)
{
    int ends[2];
    struct err err = { 0 };
    char piece[4096];
    memset(piece, 'p', sizeof(piece));
    if (fd_pipe(ends, &err) < 0 || httpd_stream_begin(request, 200, "text/plain") < 0)
        return;
    for (size_t sent = 0; sent < SPLICED; sent += sizeof(piece))
        if (fd_write_full(ends[1], piece, sizeof(piece), &err) < 0 || httpd_stream_splice(request, ends[0], sizeof(piece)) < 0)
            break;
    close(ends[0]);
    close(ends[1]);
}

static void hijack(struct demo *demo, struct httpd_request *request)
{
    struct err err = { 0 };
    demo->hijacked_fd = httpd_hijack(request, "application/demo", &err);
}

static void handle(void *context, struct httpd_request *request)
{
    struct demo *demo = context;
    const char *path = httpd_path(request);
    size_t size;
    httpd_set_header(request, "X-Common", "yes");
    const char *body = httpd_body_text(request, &size);
    if (str_eq(path, "/echo"))
        httpd_reply(request, 200, "text/plain", body, size);
    else if (str_eq(path, "/query"))
        reply_text(request, httpd_query(request, "a") ? httpd_query(request, "a") : "(none)");
    else if (str_eq(path, "/stream"))
        stream_until_gone(demo, request);
    else if (str_eq(path, "/two")) {
        httpd_stream_begin(request, 200, "text/plain");
        httpd_stream_write(request, "one", 3);
        httpd_stream_write(request, "twotwo", 6);
        httpd_stream_end(request);
    } else if (str_eq(path, "/cut")) {
        httpd_stream_begin(request, 200, "text/plain");
        httpd_stream_write(request, "one", 3);
        httpd_stream_abort(request);
    } else if (str_eq(path, "/splice"))
        splice_pipe(request);
    else if (str_eq(path, "/upload"))
        count_upload(demo, request, SIZE_MAX);
    else if (str_eq(path, "/upload-some"))
        count_upload(demo, request, 10000);
    else if (str_eq(path, "/upload-offer"))
        take_offer(demo, request, httpd_query(request, "a"));
    else if (str_eq(path, "/upload-echo"))
        echo_chunks(request);
    else if (str_eq(path, "/hijack"))
        hijack(demo, request);
    else if (str_eq(path, "/empty"))
        httpd_reply(request, 204, NULL, NULL, 0);
}

static enum httpd_body choose(void *context, struct httpd_request *request)
{
    if (str_eq(httpd_path(request), "/refused"))
        httpd_reply(request, 501, "text/plain", "no", 2);
    if (str_eq(httpd_path(request), "/upload-offer"))
        return HTTPD_BODY_OFFER;
    return str_starts(httpd_path(request), "/upload") ? HTTPD_BODY_STREAM : HTTPD_BODY_TEXT;
}

static bool urgent(void *context, const char *method, const char *path)
{
    return str_eq(path, "/query");
}

// ---- set up ---------------------------------------------------------------------------------------------------------

static void start(struct demo *demo, unsigned connection_max)
{
    struct err err = { 0 };
    const struct httpd_config config = { .handle = handle, .body = choose, .is_urgent = urgent, .context = demo,
                                         .body_max = BODY_MAX, .connection_max = connection_max };
    *demo = (struct demo){ .folder = "/tmp/httpd-test-XXXXXX", .hijacked_fd = -1 };
    assert_non_null(mkdtemp(demo->folder));
    demo->folder_fd = open(demo->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int sock = fd_unix_listen_at(demo->folder_fd, "sock", &err);
    if (sock < 0 || httpd_new(&config, &demo->httpd, &err) < 0 || httpd_listen(demo->httpd, sock, &err) < 0 ||
        httpd_start(demo->httpd, &err) < 0)
        fail_msg("%s", err.message);
}

static int setup(void **state)
{
    static struct demo demo;
    signal(SIGPIPE, SIG_IGN);
    start(&demo, 2048);
    *state = &demo;
    return 0;
}

static int teardown(void **state)
{
    struct demo *demo = *state;
    httpd_stop(demo->httpd);
    httpd_free(demo->httpd);
    fd_close(demo->hijacked_fd);
    unlinkat(demo->folder_fd, "sock", 0);
    close(demo->folder_fd);
    rmdir(demo->folder);
    return 0;
}

static int client(struct demo *demo, const char *text)
{
    struct err err = { 0 };
    const struct timeval limit = { .tv_sec = 10 };
    int fd = fd_unix_connect_at(demo->folder_fd, "sock", &err);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (text)
        assert_int_equal(fd_write_full(fd, text, strlen(text), &err), 0);
    return fd;
}

static void read_until(int fd, struct buf *out, const char *end)
{
    while (!end || !strstr(buf_text(out), end)) {
        char *room = buf_reserve(out, 4096);
        assert_non_null(room);
        ssize_t n = recv(fd, room, 4096, 0);
        if (n <= 0)
            return;
        buf_commit(out, (size_t)n);
    }
}

#define _answer_ _cleanup_buf_ struct buf
#define ask(demo, text, answer, end)                  \
    do {                                              \
        _cleanup_close_ int ask_fd = client(demo, text); \
        read_until(ask_fd, answer, end);              \
    } while (0)

static void assert_has(const struct buf *answer, const char *part)
{
    if (!strstr(buf_text(answer), part))
        fail_msg("no \"%s\" in \"%s\"", part, buf_text(answer));
}

static bool becomes(_Atomic int *value, int wanted)
{
    for (int i = 0; i < 500 && *value != wanted; i++)
        poll(NULL, 0, 10);
    return *value == wanted;
}

// ---- requests and replies -------------------------------------------------------------------------------------------

static void test_keep_alive(void **state)
{
    _answer_ answer = BUF_INIT(65536);
    _cleanup_close_ int fd = client(*state, NULL);
    for (int i = 0; i < 3; i++) {
        buf_clear(&answer);
        const char *text = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
        fd_write_full(fd, text, strlen(text), NULL);
        read_until(fd, &answer, "hello");
        assert_has(&answer, "HTTP/1.1 200 OK\r\n");
        assert_has(&answer, "X-Common: yes\r\n");
        assert_has(&answer, "Content-Length: 5\r\n");
    }
}

static void test_query(void **state)
{
    static const char *const cases[][2] = {
        { "a=1", "1" }, { "a=%2Fx%20y&b=2", "/x y" }, { "b=1", "(none)" }, { "a=1&a=2", "1" }, { "a=x+y", "x y" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[128], wanted[64];
        _answer_ answer = BUF_INIT(65536);
        snprintf(text, sizeof(text), "GET /query?%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", cases[i][0]);
        snprintf(wanted, sizeof(wanted), "\r\n\r\n%s", cases[i][1]);
        ask(*state, text, &answer, NULL);
        assert_has(&answer, wanted);
    }
}

static void test_chunked_request_body(void **state)
{
    _answer_ answer = BUF_INIT(65536);
    ask(*state, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", &answer, NULL);
    assert_has(&answer, "\r\n\r\nabcde");
}

static void test_no_answer_is_500(void **state)
{
    _answer_ answer = BUF_INIT(65536);
    ask(*state, "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &answer, NULL);
    assert_has(&answer, "HTTP/1.1 500 ");
    assert_has(&answer, "{\"message\":\"the request was not answered\"}\n");
}

static void test_no_content(void **state)
{
    _answer_ answer = BUF_INIT(65536);
    ask(*state, "GET /empty HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &answer, NULL);
    assert_has(&answer, "HTTP/1.1 204 ");
    assert_null(strstr(buf_text(&answer), "Content-Length"));
}

static void test_too_large_by_its_length(void **state)
{
    _answer_ answer = BUF_INIT(65536);
    ask(*state, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\npart of it", &answer, "large");
    assert_has(&answer, "HTTP/1.1 413 ");
    assert_has(&answer, "Connection: close\r\n");
}

static void test_too_large_in_chunks(void **state)
{
    _answer_ answer = BUF_INIT(65536);
    _cleanup_free_ char *zeros = mem_alloc(0x8000);
    _cleanup_close_ int fd = client(*state, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 8; i++) {
        fd_write_full(fd, "8000\r\n", 6, NULL);
        fd_write_full(fd, zeros, 0x8000, NULL);
        fd_write_full(fd, "\r\n", 2, NULL);
    }
    read_until(fd, &answer, "large");
    assert_has(&answer, "HTTP/1.1 413 ");
}

static void test_refused_by_the_chooser(void **state)
{
    _answer_ answer = BUF_INIT(65536);
    ask(*state, "POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\nbegin", &answer, "no");
    assert_has(&answer, "HTTP/1.1 501 ");
    _answer_ second = BUF_INIT(65536);
    ask(*state, "GET /refused HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &second, NULL);
    assert_has(&second, "HTTP/1.1 501 ");
}

static void test_broken_requests(void **state)
{
    static const char *const broken[] = {
        "garbage\r\n\r\n", "GET\r\n\r\n", "\x16\x03\x01\x02\x01\x01\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        _answer_ answer = BUF_INIT(65536);
        ask(*state, broken[i], &answer, NULL);
        if (answer.size && !strstr(buf_text(&answer), "HTTP/1.1 400 ") && !strstr(buf_text(&answer), "HTTP/1.1 413 "))
            fail_msg("case %zu: %s", i, buf_text(&answer));
    }
}

// ---- streams --------------------------------------------------------------------------------------------------------

static void test_chunked_answer(void **state)
{
    _answer_ answer = BUF_INIT(65536);
    ask(*state, "GET /two HTTP/1.1\r\nHost: x\r\n\r\n", &answer, NULL);
    assert_has(&answer, "X-Common: yes\r\n");
    assert_has(&answer, "Transfer-Encoding: chunked\r\n");
    assert_has(&answer, "\r\n\r\n3\r\none\r\n6\r\ntwotwo\r\n0\r\n\r\n");
}

static void test_http_10_gets_no_chunks(void **state)
{
    _answer_ answer = BUF_INIT(65536);
    ask(*state, "GET /two HTTP/1.0\r\n\r\n", &answer, NULL);
    assert_null(strstr(buf_text(&answer), "chunked"));
    assert_has(&answer, "\r\n\r\nonetwotwo");
}

static void test_a_cut_stream_has_no_end(void **state)
{
    _answer_ answer = BUF_INIT(65536);
    ask(*state, "GET /cut HTTP/1.1\r\nHost: x\r\n\r\n", &answer, NULL);
    assert_has(&answer, "\r\n\r\n3\r\none\r\n");
    assert_null(strstr(buf_text(&answer), "0\r\n\r\n"));
}

static void test_spliced_chunks(void **state)
{
    _answer_ answer = BUF_INIT(4 << 20), plain = BUF_INIT(4 << 20);
    size_t len = 0;
    ask(*state, "GET /splice HTTP/1.1\r\nHost: x\r\n\r\n", &answer, NULL);
    for (const char *at = buf_text(&answer); (at = strstr(at, "\r\n1000\r\npppp")); at++)
        len++;
    assert_int_equal(len, SPLICED / 4096);
    assert_has(&answer, "p\r\n0\r\n\r\n");
    ask(*state, "GET /splice HTTP/1.0\r\n\r\n", &plain, NULL);
    assert_int_equal(strspn(strstr(buf_text(&plain), "\r\n\r\n") + 4, "p"), SPLICED);
}

static void test_hang_up_cancels(void **state)
{
    struct demo *demo = *state;
    _answer_ answer = BUF_INIT(65536);
    demo->cancelled = 0;
    int fd = client(demo, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    read_until(fd, &answer, "tick");
    close(fd);
    assert_true(becomes(&demo->cancelled, 1));
}

// ---- uploads --------------------------------------------------------------------------------------------------------

static void send_upload(int fd, const char *path, size_t size)
{
    char head[256];
    _cleanup_free_ char *zeros = mem_alloc(size);
    snprintf(head, sizeof(head), "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", path, size);
    fd_write_full(fd, head, strlen(head), NULL);
    fd_write_full(fd, zeros, size, NULL);
}

static void test_upload(void **state)
{
    _answer_ answer = BUF_INIT(65536);
    _cleanup_close_ int fd = client(*state, NULL);
    for (int i = 0; i < 2; i++) { // the connection lives on
        buf_clear(&answer);
        send_upload(fd, "/upload", 5000000);
        read_until(fd, &answer, "5000000");
        assert_has(&answer, "HTTP/1.1 200 OK");
    }
}

static void test_upload_of_nothing(void **state)
{
    _answer_ answer = BUF_INIT(65536);
    ask(*state, "POST /upload HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &answer, NULL);
    assert_has(&answer, "\r\n\r\n0");
}

static void test_what_is_offered(void **state)
{
    static const struct {
        const char *wish, *got;
    } table[] = {
        { "none", "0 and 5000000." }, { "all", "5000000 and 0." }, { "0", "0 and 5000000." }, { "1", "1 and 4999999." }, { "777777", "777777 and 4222223." },
        { "777778", "777778 and 4222222." }, { "5000000", "5000000 and 0." }, { "never", "0 and 0." },
    };
    _cleanup_close_ int fd = client(*state, NULL);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) { // the connection lives on
        _answer_ answer = BUF_INIT(65536);
        _cleanup_free_ char *path = mem_printf("/upload-offer?a=%s", table[i].wish);
        send_upload(fd, path, 5000000);
        read_until(fd, &answer, table[i].got);
    }
}

static void test_what_is_offered_without_a_body(void **state)
{
    static const char *const wishes[] = { "none", "all", "10", "never" };
    for (size_t i = 0; i < ARRAY_LEN(wishes); i++) {
        _answer_ answer = BUF_INIT(65536);
        _cleanup_free_ char *head = mem_printf("POST /upload-offer?a=%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", wishes[i]);
        ask(*state, head, &answer, NULL);
        assert_has(&answer, "\r\n\r\n0 and 0.");
    }
}

static void test_client_leaves_what_it_offered(void **state)
{
    static const char *const wishes[] = { "none", "all", "2" };
    struct demo *demo = *state;
    for (size_t i = 0; i < ARRAY_LEN(wishes); i++) {
        _cleanup_free_ char *head = mem_printf("POST /upload-offer?a=%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nbegin", wishes[i]);
        demo->uploaded = -1;
        int fd = client(demo, head);
        poll(NULL, 0, 50);
        close(fd);
        assert_true(becomes(&demo->uploaded, 5));
    }
}

static void test_handler_that_stops_reading(void **state)
{
    _answer_ answer = BUF_INIT(65536);
    _cleanup_close_ int fd = client(*state, NULL);
    send_upload(fd, "/upload-some", 5000000);
    read_until(fd, &answer, "10000");
    assert_has(&answer, "\r\n\r\n10000");
}

static void test_answer_while_the_body_comes(void **state)
{
    _answer_ answer = BUF_INIT(65536);
    _cleanup_close_ int fd =
        client(*state, "POST /upload-echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    read_until(fd, &answer, "first\r\n");
    assert_has(&answer, "5\r\nfirst\r\n");
    fd_write_full(fd, "6\r\nsecond\r\n0\r\n\r\n", 17, NULL);
    read_until(fd, &answer, "0\r\n\r\n");
    assert_has(&answer, "6\r\nsecond\r\n0\r\n\r\n");
}

static void test_client_leaves_its_upload(void **state)
{
    struct demo *demo = *state;
    demo->uploaded = -1;
    demo->cancelled = 0;
    int fd = client(demo, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nbegin");
    poll(NULL, 0, 50);
    close(fd);
    assert_true(becomes(&demo->uploaded, 5));
    assert_true(becomes(&demo->cancelled, 1));
}

// ---- hijack ---------------------------------------------------------------------------------------------------------

static void expect_both_ways(int near, int far)
{
    char got[8] = "";
    assert_int_equal(fd_write_full(near, "ping", 4, NULL), 0);
    assert_int_equal(fd_read_full(far, got, 4, NULL), 4);
    assert_string_equal(got, "ping");
    assert_int_equal(fd_write_full(far, "pong", 4, NULL), 0);
    assert_int_equal(fd_read_full(near, got, 4, NULL), 4);
    assert_string_equal(got, "pong");
}

static void test_hijack_with_upgrade(void **state)
{
    struct demo *demo = *state;
    _answer_ answer = BUF_INIT(65536);
    _cleanup_close_ int fd = client(demo, "POST /hijack HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
                                          "Content-Length: 2\r\n\r\n{}");
    read_until(fd, &answer, "\r\n\r\n");
    assert_has(&answer, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/demo\r\nX-Common: yes\r\n");
    assert_has(&answer, "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
    for (int i = 0; i < 500 && demo->hijacked_fd < 0; i++)
        poll(NULL, 0, 10);
    poll(NULL, 0, 100); // by now the server has closed its side
    expect_both_ways(fd, demo->hijacked_fd);
    shutdown(fd, SHUT_WR);
    char end;
    assert_int_equal(read(demo->hijacked_fd, &end, 1), 0);
    assert_int_equal(fd_write_full(demo->hijacked_fd, "late", 4, NULL), 0);
    close(demo->hijacked_fd);
    demo->hijacked_fd = -1;
    buf_clear(&answer);
    read_until(fd, &answer, NULL);
    assert_string_equal(buf_text(&answer), "late");
}

static void test_hijack_without_upgrade_outlives_the_server(void **state)
{
    struct demo demo;
    _answer_ answer = BUF_INIT(65536);
    start(&demo, 2048);
    void *context = &demo;
    _cleanup_close_ int fd = client(&demo, "POST /hijack HTTP/1.1\r\nHost: x\r\n\r\n");
    read_until(fd, &answer, "\r\n\r\n");
    assert_has(&answer, "HTTP/1.1 200 OK\r\nContent-Type: application/demo\r\n");
    assert_null(strstr(buf_text(&answer), "Content-Length"));
    for (int i = 0; i < 500 && demo.hijacked_fd < 0; i++)
        poll(NULL, 0, 10);
    int held = demo.hijacked_fd;
    demo.hijacked_fd = -1;
    teardown(&context);
    expect_both_ways(fd, held);
    close(held);
}

// ---- crowds and ends ------------------------------------------------------------------------------------------------

static void test_beyond_the_limit_only_urgent_requests(void **state)
{
    struct demo demo;
    int idle[3];
    void *context = &demo;
    start(&demo, 3);
    for (size_t i = 0; i < ARRAY_LEN(idle); i++) {
        _answer_ answer = BUF_INIT(65536);
        idle[i] = client(&demo, "GET /query?a=in HTTP/1.1\r\nHost: x\r\n\r\n");
        read_until(idle[i], &answer, "in");
    }
    _answer_ refused = BUF_INIT(65536), served = BUF_INIT(65536);
    ask(&demo, "GET /two HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &refused, NULL);
    assert_has(&refused, "HTTP/1.1 503 ");
    ask(&demo, "GET /query?a=in HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &served, NULL);
    assert_has(&served, "HTTP/1.1 200 ");
    for (size_t i = 0; i < ARRAY_LEN(idle); i++)
        close(idle[i]);
    teardown(&context);
}

static void test_stop_hangs_up_who_is_there(void **state)
{
    struct demo demo;
    void *context = &demo;
    _answer_ answer = BUF_INIT(65536);
    start(&demo, 2048);
    _cleanup_close_ int silent = client(&demo, NULL);
    _cleanup_close_ int half = client(&demo, "GET /qu");
    _cleanup_close_ int listening = client(&demo, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    read_until(listening, &answer, "tick");
    int64_t began_ns = clock_mono_ns();
    teardown(&context);
    assert_true(clock_mono_ns() - began_ns < 2 * NS_PER_S);
    assert_int_equal(demo.cancelled, 1);
    char end;
    assert_true(recv(silent, &end, 1, 0) <= 0 && recv(half, &end, 1, 0) <= 0);
}

static void *ask_often(void *context)
{
    for (int i = 0; i < 50; i++) {
        _answer_ answer = BUF_INIT(65536);
        ask(context, "GET /query?a=yes HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &answer, NULL);
        if (!strstr(buf_text(&answer), "yes"))
            return context;
    }
    return NULL;
}

static void test_many_clients(void **state)
{
    pthread_t threads[16];
    void *failed = NULL;
    int silent[200];
    for (size_t i = 0; i < ARRAY_LEN(silent); i++)
        silent[i] = client(*state, i % 2 ? "GE" : NULL);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_create(&threads[i], NULL, ask_often, *state);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    for (size_t i = 0; i < ARRAY_LEN(silent); i++)
        close(silent[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_chunked_request_body),
        cmocka_unit_test(test_no_answer_is_500),
        cmocka_unit_test(test_no_content),
        cmocka_unit_test(test_too_large_by_its_length),
        cmocka_unit_test(test_too_large_in_chunks),
        cmocka_unit_test(test_refused_by_the_chooser),
        cmocka_unit_test(test_broken_requests),
        cmocka_unit_test(test_chunked_answer),
        cmocka_unit_test(test_http_10_gets_no_chunks),
        cmocka_unit_test(test_a_cut_stream_has_no_end),
        cmocka_unit_test(test_spliced_chunks),
        cmocka_unit_test(test_hang_up_cancels),
        cmocka_unit_test(test_upload),
        cmocka_unit_test(test_upload_of_nothing),
        cmocka_unit_test(test_what_is_offered),
        cmocka_unit_test(test_what_is_offered_without_a_body),
        cmocka_unit_test(test_client_leaves_what_it_offered),
        cmocka_unit_test(test_handler_that_stops_reading),
        cmocka_unit_test(test_answer_while_the_body_comes),
        cmocka_unit_test(test_client_leaves_its_upload),
        cmocka_unit_test(test_hijack_with_upgrade),
        cmocka_unit_test(test_hijack_without_upgrade_outlives_the_server),
        cmocka_unit_test(test_beyond_the_limit_only_urgent_requests),
        cmocka_unit_test(test_stop_hangs_up_who_is_there),
        cmocka_unit_test(test_many_clients),
    };
    return cmocka_run_group_tests_name("httpd_server", tests, setup, teardown);
}
