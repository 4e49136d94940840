#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "http/http.h"
#include "vmm/monitor.h"

#define LAST_WORDS_NS (2 * NS_PER_S) // for clients that are slow to take the end

struct control {
    const struct monitor *monitor;
    struct machine *machine;
    struct virtio_device *vsock;
    struct loop *loop;
    struct http_server *server;
    struct loop_source *signals, *end, *link;
    bool paused;
    bool pressed; // the power button, by a signal
};

// ---- routes --------------------------------------------------------------------------------------------------------

static void on_state(void *context, struct http_call *call)
{
    const struct control *control = context;
    char json[128];
    snprintf(json, sizeof(json), "{\"state\":\"%s\",\"version\":\"" BERTH_VERSION "\",\"cpus\":%u}",
             control->paused ? "paused" : "running", machine_cpus(control->machine));
    http_answer(call, 200, json);
}

static void finish(struct http_call *call, int result, const struct err *err)
{
    if (result < 0)
        http_answer_err(call, err);
    else
        http_answer(call, 204, NULL);
}

static void on_pause(void *context, struct http_call *call)
{
    struct control *control = context;
    struct err err;
    int result = machine_pause(control->machine, &err);
    finish(call, result, &err);
    if (result == 0 && !control->paused)
        http_server_tell(control->server, "{\"event\":\"paused\"}");
    control->paused |= result == 0;
}

static void on_resume(void *context, struct http_call *call)
{
    struct control *control = context;
    struct err err;
    int result = machine_resume(control->machine, &err);
    finish(call, result, &err);
    if (result == 0)
        http_server_tell(control->server, "{\"event\":\"resumed\"}");
    control->paused &= result < 0;
}

static void on_snapshot(void *context, struct http_call *call)
{
    struct control *control = context;
    struct err err;
    int result = call->fds_len == 1 ? machine_save(control->machine, call->fds[0], &err)
                                    : err_set(&err, ERR_INVALID_ARGUMENT, "a snapshot needs one descriptor, of an empty file");
    finish(call, result, &err);
}

static void on_power_button(void *context, struct http_call *call)
{
    machine_press_power(((struct control *)context)->machine);
    http_answer(call, 204, NULL);
}

static void on_stop(void *context, struct http_call *call)
{
    http_answer(call, 204, NULL);
    machine_stop(((struct control *)context)->machine);
}

static void on_events(void *context, struct http_call *call)
{
    const struct control *control = context;
    http_answer_stream(call, control->paused ? "{\"event\":\"paused\"}" : "{\"event\":\"started\"}");
}

static const struct http_route routes[] = {
    { "GET", "/", on_state },
    { "PUT", "/pause", on_pause },
    { "PUT", "/resume", on_resume },
    { "PUT", "/snapshot", on_snapshot },
    { "PUT", "/power-button", on_power_button },
    { "PUT", "/stop", on_stop },
    { "GET", "/events", on_events },
};

// ---- what else happens ---------------------------------------------------------------------------------------------

static void on_signal(void *context, int fd, uint32_t events)
{
    struct control *control = context;
    struct signalfd_siginfo info;
    if (read(fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo == SIGTERM && !control->pressed)
        machine_press_power(control->machine);
    else
        machine_stop(control->machine);
    control->pressed = true;
}

static void on_end(void *context, int fd, uint32_t events)
{
    loop_stop(((struct control *)context)->loop);
}

// An answer, or somebody who wants to talk to a port of the guest. Whatever can't be used is closed.
static void on_link(void *context, int fd, uint32_t events)
{
    struct control *control = context;
    uint32_t ports[2];
    int sock = -1;
    size_t socks_len = 1;
    struct err err = { 0 };
    ssize_t got = fd_recv(fd, ports, sizeof(ports), &sock, &socks_len, &err);
    if (got != sizeof(ports)) {
        if (got >= 0 || err.number != EAGAIN)
            loop_set_events(control->link, 0); // nobody is there any more: the guest's connections will find it out
        return;
    }
    if (socks_len == 0)
        sock = -1;
    int result = ports[0] || sock < 0 ? virtio_vsock_answer(control->vsock, ports[0], ports[1], sock, &err)
                                      : virtio_vsock_dial(control->vsock, ports[1], sock, &err);
    if (result < 0)
        fd_close(sock);
}

// ---- the loop ------------------------------------------------------------------------------------------------------

static int add_sources(struct control *control, int signals, struct err *err)
{
    const struct monitor *monitor = control->monitor;
    if (loop_add_fd(control->loop, signals, EPOLLIN, on_signal, control, &control->signals, err) < 0 ||
        loop_add_fd(control->loop, machine_end_fd(control->machine), EPOLLIN, on_end, control, &control->end, err) < 0)
        return -1;
    if (control->vsock && (fd_set_nonblock(monitor->vsock_fd, true, err) < 0 ||
                           loop_add_fd(control->loop, monitor->vsock_fd, EPOLLIN, on_link, control, &control->link, err) < 0))
        return -1;
    for (size_t i = 0; i < monitor->apis_len; i++)
        if (http_server_add(control->server, monitor->api_fds[i], err) < 0)
            return -1;
    return 0;
}

static void tell_end(struct control *control, const struct machine_end *end)
{
    _cleanup_buf_ struct buf json = BUF_INIT(4096);
    buf_addf(&json, "{\"event\":\"ended\",\"kind\":\"%s\",\"cpu\":%u,\"why\":", machine_end_name(end->kind), end->cpu);
    http_put_text(&json, end->why);
    buf_adds(&json, "}");
    http_server_tell(control->server, buf_text(&json));
    http_server_drain(control->server, clock_mono_ns() + LAST_WORDS_NS);
}

static int serve(struct control *control, struct machine_end *end, struct err *err)
{
    _cleanup_close_ int signals = monitor_signals(err);
    if (signals < 0 || http_server_new(control->loop, routes, ARRAY_LEN(routes), control, &control->server, err) < 0 ||
        add_sources(control, signals, err) < 0 || machine_start(control->machine, err) < 0)
        return -1;
    int result = loop_run(control->loop, err);
    if (result == 0) {
        machine_wait(control->machine, -1, end);
        tell_end(control, end);
    }
    loop_remove(control->signals);
    control->signals = NULL;
    return result;
}

int monitor_control(const struct monitor *monitor, struct machine *machine, struct virtio_device *vsock,
                    struct machine_end *end, struct err *err)
{
    struct control control = { .monitor = monitor, .machine = machine, .vsock = vsock };
    if (loop_new(&control.loop, err) < 0)
        return -1;
    int result = serve(&control, end, err);
    http_server_free(control.server);
    loop_free(control.loop);
    return result;
}
