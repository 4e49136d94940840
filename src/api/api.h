// The Docker Engine API: HTTP routes to engine calls, JSON in, JSON out, no logic of its own.
//
// Every path is served with and without a version prefix (/v1.21 to /v1.51); without one it is the highest. What documents had
// in older versions is the table in versions.c. router.c has the table of all endpoints that Docker documents: those that
// Berth does not serve yet answer 501 with one clear line, those of Swarm 503 with Docker's own words.
//
// Give the functions below to an httpd_config, with the api as its context. Thread-safe; an api holds no state of requests.
#ifndef API_API_H
#define API_API_H

#include "engine/engine.h"
#include "httpd/httpd.h"

struct api;

int api_new(struct engine *engine, struct api **out, struct err *err); // the engine stays the caller's and must outlive it
void api_free(struct api *api); // once the server has stopped

void api_handle(void *api, struct httpd_request *request);
enum httpd_body api_body(void *api, struct httpd_request *request); // refuses what no handler would take, before its body
// A connection that begins with HTTP/2: gRPC. Takes the descriptor; returns at its end.
void api_http2(void *api, int take_fd, const struct cancel *stop);
// GET /metrics, for a server of its own.
void api_handle_metrics(void *api, struct httpd_request *request);
enum httpd_body api_body_metrics(void *api, struct httpd_request *request);
bool api_is_urgent(void *api, const char *method, const char *path); // _ping, stop, kill: answered by a crowded server too

#endif
