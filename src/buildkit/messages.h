// BuildKit's messages, as far as they are spoken here. Members have the names of the fields.
#ifndef BUILDKIT_MESSAGES_H
#define BUILDKIT_MESSAGES_H

#include "grpc/proto.h"

struct status_message { // google.rpc.Status
    int32_t code;
    char *message;
};
struct empty_message {
    bool unused;
};

// ---- moby.buildkit.v1.Control ---------------------------------------------------------------------------------------

struct version_message {
    char *package, *version;
};
struct info_response {
    struct version_message *version;
};
struct platform_message {
    char *architecture, *os, *variant;
};
struct worker_record {
    char *id;
    struct kvs labels;
    struct proto_list platforms;
    struct version_message *version;
};
struct workers_response {
    struct proto_list records;
};

struct usage_request {
    struct strv filters;
};
struct usage_record {
    char *id, *parent, *description, *type;
    bool in_use, shared;
    int64_t size, created_ns, used_ns, uses;
    struct strv parents;
};
struct usage_response {
    struct proto_list records;
};
struct prune_request {
    struct strv filters;
    bool all;
    int64_t keep_ns, reserved, max_used, min_free;
};
struct history_request {
    bool active_only, early_exit;
    char *ref; // NULL: all
    int32_t limit; // 0: all
};
struct history_record {
    char *ref, *frontend;
    struct kvs attributes, response;
    struct status_message *error;
    int64_t created_ns, completed_ns;
    bool pinned;
    int32_t cached, total, completed; // steps
};
struct history_event {
    int32_t type;
    struct history_record *record;
};
struct history_update {
    char *ref;
    bool pinned, delete, finalize;
};

struct exporter_message {
    char *type;
    struct kvs attrs;
};
struct cache_options {
    struct proto_list exports, imports; // exporter_message: the fields are the same
};
struct solve_request {
    char *ref, *exporter, *session, *frontend;
    struct kvs exporter_attrs, frontend_attrs;
    struct slice definition;
    struct strv entitlements;
    struct cache_options *cache;
    struct proto_list exporters;
    struct slice policy; // of sources
    bool internal;
};
struct solve_response {
    struct kvs exporter_response;
};
struct status_request {
    char *ref;
};

struct vertex {
    char *digest, *name, *error;
    bool cached;
    int64_t started_ns, completed_ns;
    struct strv inputs;
};
struct vertex_status {
    char *id, *vertex, *name;
    int64_t current, total, timestamp_ns, started_ns, completed_ns;
};
struct vertex_log {
    char *vertex;
    int64_t timestamp_ns, stream;
    struct slice message;
};
struct position_message { // pb.Position, pb.Range, pb.SourceInfo
    int32_t line, character;
};
struct range_message {
    struct position_message *start, *end;
};
struct source_message {
    char *filename;
    struct slice data;
    char *language;
};
struct vertex_warning {
    char *vertex;
    int64_t level;
    char *summary; // the field "short"
    struct strv detail;
    char *url;
    struct source_message *info;
    struct proto_list ranges;
};
struct status_response {
    struct proto_list vertexes, statuses, logs, warnings;
};

// ---- moby.buildkit.v1.frontend.LLBBridge ----------------------------------------------------------------------------

struct cap_message {
    char *id;
    bool enabled;
};
struct pong_message {
    struct proto_list frontend_caps, llb_caps, workers;
};
struct bridge_solve_request {
    struct slice definition;
    char *frontend;
    struct kvs options;
    struct proto_list cache_imports;
    struct slice inputs; // of the frontend: build graphs
    bool array_ref;
};
struct ref_message {
    char *id;
};
struct result_message {
    struct ref_message *ref;
    struct kvs metadata;
};
struct bridge_solve_response {
    char *ref;
    struct result_message *result;
};
struct return_request {
    struct status_message *error;
};

// ---- the session's services, and others -----------------------------------------------------------------------------

struct stat_message { // fsutil.types.Stat
    char *path, *linkname;
    uint32_t mode, uid, gid;
    int64_t size, mtime_ns, major, minor;
};
enum packet_type { PACKET_STAT, PACKET_REQ, PACKET_DATA, PACKET_FIN, PACKET_ERR };
struct packet_message { // fsutil.types.Packet
    int32_t type;
    struct stat_message *stat;
    uint32_t id;
    struct slice data;
};
struct secret_request {
    char *id;
};
struct bytes_message {
    struct slice data;
};
struct credentials_request {
    char *host;
};
struct credentials_response {
    char *username, *secret;
};
struct health_response {
    int32_t status;
};

// containerd.services.content.v1.Content
struct content_info {
    char *digest;
    int64_t size;
};
struct content_info_request {
    char *digest;
};
struct content_info_response {
    struct content_info *info;
};
struct content_read_request {
    char *digest;
    int64_t offset, size;
};
struct content_read_response {
    int64_t offset;
    struct slice data;
};
enum content_action { CONTENT_STAT, CONTENT_WRITE, CONTENT_COMMIT };
struct content_write_request {
    int32_t action;
    char *ref;
    int64_t total;
    char *expected; // the digest
    int64_t offset;
    struct slice data;
};
struct content_write_response {
    int32_t action;
    int64_t offset, total;
    char *digest;
};

extern const struct proto_message empty_table, info_response_table, workers_response_table, usage_request_table, usage_record_table,
    usage_response_table, prune_request_table, history_request_table, history_event_table, history_update_table, solve_request_table, solve_response_table, status_request_table,
    status_response_table, pong_table, bridge_solve_request_table, bridge_solve_response_table, return_request_table, packet_table,
    secret_request_table, bytes_table, credentials_request_table, credentials_response_table, health_response_table, content_info_request_table,
    content_info_response_table, content_read_request_table, content_read_response_table, content_write_request_table, content_write_response_table;

#endif
