// BuildKit's door: connections that are taken over for gRPC. What is said there is the room buildkit's.
#include "api_private.h"
#include "buildkit/buildkit.h"
#include "engine/steps.h"

static int new_door(struct api *api, struct err *err)
{
    struct engine_info info;
    if (engine_info(api->engine, &api->arena, &info, err) < 0)
        return -1;
    struct buildkit_config config = { .worker_id = info.id, .version = "v" BERTH_VERSION, .hostname = info.name,
                                            .architecture = PLATFORM_ARCHITECTURE };
    config.history = arena_printf(&api->arena, "%s/builds", engine_data_root(api->engine));
    buildkit_functions(api, &config);
    return buildkit_new(&config, &api->buildkit, err);
}

int buildkit_door(struct api *api, struct err *err)
{
    return new_door(api, err) < 0 ? err_wrap(err, "the builder's door") : 0;
}

// The request's own descriptor is nobody's once the connection is taken over; what stays is the server's stop.
static struct cancel stop_of(const struct call *call)
{
    return (struct cancel){ -1, httpd_cancel(call->request)->event_fd };
}

int handle_grpc(struct call *call, struct err *err)
{
    const struct cancel stop = stop_of(call);
    int fd = httpd_hijack_http2(call->request, err);
    if (fd < 0)
        return -1;
    buildkit_serve(call->buildkit, fd, &stop);
    return 0;
}

int handle_session(struct call *call, struct err *err)
{
    const struct cancel stop = stop_of(call);
    const char *id = httpd_header(call->request, "X-Docker-Expose-Session-Uuid");
    if (httpd_upgrade(call->request) && buildkit_session_check(call->buildkit, id, err) < 0)
        return -1;
    int fd = httpd_hijack_http2(call->request, err);
    if (fd < 0)
        return -1;
    buildkit_session_serve(call->buildkit, id, httpd_header(call->request, "X-Docker-Expose-Session-Sharedkey"), fd, &stop);
    return 0;
}

void api_http2(void *context, int take_fd, const struct cancel *stop)
{
    struct api *api = context;
    buildkit_serve(api->buildkit, take_fd, stop);
}
