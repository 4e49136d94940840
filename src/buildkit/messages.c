#include "buildkit/messages.h"

#define TABLE(name, of_struct) const struct proto_message name##_table = PROTO_MESSAGE_OF(of_struct, name##_fields)
#define LOCAL_TABLE(name, of_struct) static const struct proto_message name##_table = PROTO_MESSAGE_OF(of_struct, name##_fields)

const struct proto_message empty_table = { sizeof(struct empty_message), NULL, 0 };

static const struct proto_field version_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct version_message, package),
    PROTO_FIELD(2, PROTO_TEXT, struct version_message, version),
};
LOCAL_TABLE(version, struct version_message);

static const struct proto_field info_response_fields[] = {
    PROTO_SUB(1, PROTO_MESSAGE, struct info_response, version, &version_table),
};
TABLE(info_response, struct info_response);

static const struct proto_field platform_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct platform_message, architecture),
    PROTO_FIELD(2, PROTO_TEXT, struct platform_message, os),
    PROTO_FIELD(3, PROTO_TEXT, struct platform_message, variant),
};
LOCAL_TABLE(platform, struct platform_message);

static const struct proto_field worker_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct worker_record, id),
    PROTO_FIELD(2, PROTO_MAP, struct worker_record, labels),
    PROTO_SUB(3, PROTO_MESSAGES, struct worker_record, platforms, &platform_table),
    PROTO_SUB(5, PROTO_MESSAGE, struct worker_record, version, &version_table),
};
LOCAL_TABLE(worker, struct worker_record);

static const struct proto_field workers_response_fields[] = {
    PROTO_SUB(1, PROTO_MESSAGES, struct workers_response, records, &worker_table),
};
TABLE(workers_response, struct workers_response);

static const struct proto_field usage_request_fields[] = { PROTO_FIELD(1, PROTO_TEXTS, struct usage_request, filters) };
TABLE(usage_request, struct usage_request);

static const struct proto_field usage_record_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct usage_record, id),
    PROTO_FIELD(3, PROTO_BOOL, struct usage_record, in_use),
    PROTO_FIELD(4, PROTO_INT64, struct usage_record, size),
    PROTO_FIELD(5, PROTO_TEXT, struct usage_record, parent),
    PROTO_FIELD(6, PROTO_TIME, struct usage_record, created_ns),
    PROTO_FIELD(7, PROTO_TIME, struct usage_record, used_ns),
    PROTO_FIELD(8, PROTO_INT64, struct usage_record, uses),
    PROTO_FIELD(9, PROTO_TEXT, struct usage_record, description),
    PROTO_FIELD(10, PROTO_TEXT, struct usage_record, type),
    PROTO_FIELD(11, PROTO_BOOL, struct usage_record, shared),
    PROTO_FIELD(12, PROTO_TEXTS, struct usage_record, parents),
};
TABLE(usage_record, struct usage_record);

static const struct proto_field usage_response_fields[] = {
    PROTO_SUB(1, PROTO_MESSAGES, struct usage_response, records, &usage_record_table),
};
TABLE(usage_response, struct usage_response);

static const struct proto_field prune_request_fields[] = {
    PROTO_FIELD(1, PROTO_TEXTS, struct prune_request, filters),   PROTO_FIELD(2, PROTO_BOOL, struct prune_request, all),
    PROTO_FIELD(3, PROTO_INT64, struct prune_request, keep_ns),   PROTO_FIELD(4, PROTO_INT64, struct prune_request, reserved),
    PROTO_FIELD(5, PROTO_INT64, struct prune_request, max_used),  PROTO_FIELD(6, PROTO_INT64, struct prune_request, min_free),
};
TABLE(prune_request, struct prune_request);

static const struct proto_field history_request_fields[] = {
    PROTO_FIELD(1, PROTO_BOOL, struct history_request, active_only),
    PROTO_FIELD(2, PROTO_TEXT, struct history_request, ref),
    PROTO_FIELD(3, PROTO_BOOL, struct history_request, early_exit),
    PROTO_FIELD(5, PROTO_INT32, struct history_request, limit),
};
TABLE(history_request, struct history_request);

static const struct proto_field status_fields[] = {
    PROTO_FIELD(1, PROTO_INT32, struct status_message, code),
    PROTO_FIELD(2, PROTO_TEXT, struct status_message, message),
};
LOCAL_TABLE(status, struct status_message);

static const struct proto_field history_record_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct history_record, ref),
    PROTO_FIELD(2, PROTO_TEXT, struct history_record, frontend),
    PROTO_FIELD(3, PROTO_MAP, struct history_record, attributes),
    PROTO_SUB(5, PROTO_MESSAGE, struct history_record, error, &status_table),
    PROTO_FIELD(6, PROTO_TIME, struct history_record, created_ns),
    PROTO_FIELD(7, PROTO_TIME, struct history_record, completed_ns),
    PROTO_FIELD(9, PROTO_MAP, struct history_record, response),
    PROTO_FIELD(14, PROTO_BOOL, struct history_record, pinned),
    PROTO_FIELD(15, PROTO_INT32, struct history_record, cached),
    PROTO_FIELD(16, PROTO_INT32, struct history_record, total),
    PROTO_FIELD(17, PROTO_INT32, struct history_record, completed),
};
LOCAL_TABLE(history_record, struct history_record);
static const struct proto_field history_event_fields[] = {
    PROTO_FIELD(1, PROTO_INT32, struct history_event, type),
    PROTO_SUB(2, PROTO_MESSAGE, struct history_event, record, &history_record_table),
};
TABLE(history_event, struct history_event);
static const struct proto_field history_update_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct history_update, ref),
    PROTO_FIELD(2, PROTO_BOOL, struct history_update, pinned),
    PROTO_FIELD(3, PROTO_BOOL, struct history_update, delete),
    PROTO_FIELD(4, PROTO_BOOL, struct history_update, finalize),
};
TABLE(history_update, struct history_update);

static const struct proto_field exporter_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct exporter_message, type),
    PROTO_FIELD(2, PROTO_MAP, struct exporter_message, attrs),
};
LOCAL_TABLE(exporter, struct exporter_message);

static const struct proto_field cache_options_fields[] = {
    PROTO_SUB(4, PROTO_MESSAGES, struct cache_options, exports, &exporter_table),
    PROTO_SUB(5, PROTO_MESSAGES, struct cache_options, imports, &exporter_table),
};
LOCAL_TABLE(cache_options, struct cache_options);

static const struct proto_field solve_request_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct solve_request, ref),
    PROTO_FIELD(2, PROTO_BYTES, struct solve_request, definition),
    PROTO_FIELD(3, PROTO_TEXT, struct solve_request, exporter),
    PROTO_FIELD(4, PROTO_MAP, struct solve_request, exporter_attrs),
    PROTO_FIELD(5, PROTO_TEXT, struct solve_request, session),
    PROTO_FIELD(6, PROTO_TEXT, struct solve_request, frontend),
    PROTO_FIELD(7, PROTO_MAP, struct solve_request, frontend_attrs),
    PROTO_SUB(8, PROTO_MESSAGE, struct solve_request, cache, &cache_options_table),
    PROTO_FIELD(9, PROTO_TEXTS, struct solve_request, entitlements),
    PROTO_FIELD(11, PROTO_BOOL, struct solve_request, internal),
    PROTO_FIELD(12, PROTO_BYTES, struct solve_request, policy),
    PROTO_SUB(13, PROTO_MESSAGES, struct solve_request, exporters, &exporter_table),
};
TABLE(solve_request, struct solve_request);

static const struct proto_field solve_response_fields[] = { PROTO_FIELD(1, PROTO_MAP, struct solve_response, exporter_response) };
TABLE(solve_response, struct solve_response);

static const struct proto_field status_request_fields[] = { PROTO_FIELD(1, PROTO_TEXT, struct status_request, ref) };
TABLE(status_request, struct status_request);

static const struct proto_field vertex_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct vertex, digest),        PROTO_FIELD(2, PROTO_TEXTS, struct vertex, inputs),
    PROTO_FIELD(3, PROTO_TEXT, struct vertex, name),          PROTO_FIELD(4, PROTO_BOOL, struct vertex, cached),
    PROTO_FIELD(5, PROTO_TIME, struct vertex, started_ns),    PROTO_FIELD(6, PROTO_TIME, struct vertex, completed_ns),
    PROTO_FIELD(7, PROTO_TEXT, struct vertex, error),
};
LOCAL_TABLE(vertex, struct vertex);

static const struct proto_field vertex_status_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct vertex_status, id),           PROTO_FIELD(2, PROTO_TEXT, struct vertex_status, vertex),
    PROTO_FIELD(3, PROTO_TEXT, struct vertex_status, name),         PROTO_FIELD(4, PROTO_INT64, struct vertex_status, current),
    PROTO_FIELD(5, PROTO_INT64, struct vertex_status, total),       PROTO_FIELD(6, PROTO_TIME, struct vertex_status, timestamp_ns),
    PROTO_FIELD(7, PROTO_TIME, struct vertex_status, started_ns),   PROTO_FIELD(8, PROTO_TIME, struct vertex_status, completed_ns),
};
LOCAL_TABLE(vertex_status, struct vertex_status);

static const struct proto_field vertex_log_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct vertex_log, vertex),
    PROTO_FIELD(2, PROTO_TIME, struct vertex_log, timestamp_ns),
    PROTO_FIELD(3, PROTO_INT64, struct vertex_log, stream),
    PROTO_FIELD(4, PROTO_BYTES, struct vertex_log, message),
};
LOCAL_TABLE(vertex_log, struct vertex_log);

static const struct proto_field position_fields[] = {
    PROTO_FIELD(1, PROTO_INT32, struct position_message, line),
    PROTO_FIELD(2, PROTO_INT32, struct position_message, character),
};
LOCAL_TABLE(position, struct position_message);

static const struct proto_field range_fields[] = {
    PROTO_SUB(1, PROTO_MESSAGE, struct range_message, start, &position_table),
    PROTO_SUB(2, PROTO_MESSAGE, struct range_message, end, &position_table),
};
LOCAL_TABLE(range, struct range_message);

static const struct proto_field source_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct source_message, filename),
    PROTO_FIELD(2, PROTO_BYTES, struct source_message, data),
    PROTO_FIELD(4, PROTO_TEXT, struct source_message, language),
};
LOCAL_TABLE(source, struct source_message);

static const struct proto_field vertex_warning_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct vertex_warning, vertex),
    PROTO_FIELD(2, PROTO_INT64, struct vertex_warning, level),
    PROTO_FIELD(3, PROTO_TEXT, struct vertex_warning, summary),
    PROTO_FIELD(4, PROTO_TEXTS, struct vertex_warning, detail),
    PROTO_FIELD(5, PROTO_TEXT, struct vertex_warning, url),
    PROTO_SUB(6, PROTO_MESSAGE, struct vertex_warning, info, &source_table),
    PROTO_SUB(7, PROTO_MESSAGES, struct vertex_warning, ranges, &range_table),
};
LOCAL_TABLE(vertex_warning, struct vertex_warning);

static const struct proto_field status_response_fields[] = {
    PROTO_SUB(1, PROTO_MESSAGES, struct status_response, vertexes, &vertex_table),
    PROTO_SUB(2, PROTO_MESSAGES, struct status_response, statuses, &vertex_status_table),
    PROTO_SUB(3, PROTO_MESSAGES, struct status_response, logs, &vertex_log_table),
    PROTO_SUB(4, PROTO_MESSAGES, struct status_response, warnings, &vertex_warning_table),
};
TABLE(status_response, struct status_response);

static const struct proto_field cap_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct cap_message, id),
    PROTO_FIELD(2, PROTO_BOOL, struct cap_message, enabled),
};
LOCAL_TABLE(cap, struct cap_message);

static const struct proto_field pong_fields[] = {
    PROTO_SUB(1, PROTO_MESSAGES, struct pong_message, frontend_caps, &cap_table),
    PROTO_SUB(2, PROTO_MESSAGES, struct pong_message, llb_caps, &cap_table),
    PROTO_SUB(3, PROTO_MESSAGES, struct pong_message, workers, &worker_table),
};
TABLE(pong, struct pong_message);

static const struct proto_field bridge_solve_request_fields[] = {
    PROTO_FIELD(1, PROTO_BYTES, struct bridge_solve_request, definition),
    PROTO_FIELD(2, PROTO_TEXT, struct bridge_solve_request, frontend),
    PROTO_FIELD(3, PROTO_MAP, struct bridge_solve_request, options),
    PROTO_FIELD(6, PROTO_BOOL, struct bridge_solve_request, array_ref),
    PROTO_SUB(12, PROTO_MESSAGES, struct bridge_solve_request, cache_imports, &exporter_table),
    PROTO_FIELD(13, PROTO_BYTES, struct bridge_solve_request, inputs),
};
TABLE(bridge_solve_request, struct bridge_solve_request);

static const struct proto_field ref_fields[] = { PROTO_FIELD(1, PROTO_TEXT, struct ref_message, id) };
LOCAL_TABLE(ref, struct ref_message);
static const struct proto_field result_fields[] = {
    PROTO_SUB(3, PROTO_MESSAGE, struct result_message, ref, &ref_table),
    PROTO_FIELD(10, PROTO_MAP, struct result_message, metadata),
};
LOCAL_TABLE(result, struct result_message);
static const struct proto_field bridge_solve_response_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct bridge_solve_response, ref),
    PROTO_SUB(3, PROTO_MESSAGE, struct bridge_solve_response, result, &result_table),
};
TABLE(bridge_solve_response, struct bridge_solve_response);

static const struct proto_field return_request_fields[] = { PROTO_SUB(2, PROTO_MESSAGE, struct return_request, error, &status_table) };
TABLE(return_request, struct return_request);

static const struct proto_field stat_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct stat_message, path),       PROTO_FIELD(2, PROTO_UINT32, struct stat_message, mode),
    PROTO_FIELD(3, PROTO_UINT32, struct stat_message, uid),      PROTO_FIELD(4, PROTO_UINT32, struct stat_message, gid),
    PROTO_FIELD(5, PROTO_INT64, struct stat_message, size),      PROTO_FIELD(6, PROTO_INT64, struct stat_message, mtime_ns),
    PROTO_FIELD(7, PROTO_TEXT, struct stat_message, linkname),   PROTO_FIELD(8, PROTO_INT64, struct stat_message, major),
    PROTO_FIELD(9, PROTO_INT64, struct stat_message, minor),
};
LOCAL_TABLE(stat, struct stat_message);

static const struct proto_field packet_fields[] = {
    PROTO_FIELD(1, PROTO_INT32, struct packet_message, type),
    PROTO_SUB(2, PROTO_MESSAGE, struct packet_message, stat, &stat_table),
    PROTO_FIELD(3, PROTO_UINT32, struct packet_message, id),
    PROTO_FIELD(4, PROTO_BYTES, struct packet_message, data),
};
TABLE(packet, struct packet_message);

static const struct proto_field secret_request_fields[] = { PROTO_FIELD(1, PROTO_TEXT, struct secret_request, id) };
TABLE(secret_request, struct secret_request);
static const struct proto_field bytes_fields[] = { PROTO_FIELD(1, PROTO_BYTES, struct bytes_message, data) };
TABLE(bytes, struct bytes_message);
static const struct proto_field credentials_request_fields[] = { PROTO_FIELD(1, PROTO_TEXT, struct credentials_request, host) };
TABLE(credentials_request, struct credentials_request);
static const struct proto_field credentials_response_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct credentials_response, username),
    PROTO_FIELD(2, PROTO_TEXT, struct credentials_response, secret),
};
TABLE(credentials_response, struct credentials_response);
static const struct proto_field health_response_fields[] = { PROTO_FIELD(1, PROTO_INT32, struct health_response, status) };
TABLE(health_response, struct health_response);

// ---- containerd.services.content.v1 ---------------------------------------------------------------------------------

static const struct proto_field content_info_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct content_info, digest),
    PROTO_FIELD(2, PROTO_INT64, struct content_info, size),
};
LOCAL_TABLE(content_info, struct content_info);
static const struct proto_field content_info_request_fields[] = { PROTO_FIELD(1, PROTO_TEXT, struct content_info_request, digest) };
TABLE(content_info_request, struct content_info_request);
static const struct proto_field content_info_response_fields[] = {
    PROTO_SUB(1, PROTO_MESSAGE, struct content_info_response, info, &content_info_table),
};
TABLE(content_info_response, struct content_info_response);

static const struct proto_field content_read_request_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct content_read_request, digest),
    PROTO_FIELD(2, PROTO_INT64, struct content_read_request, offset),
    PROTO_FIELD(3, PROTO_INT64, struct content_read_request, size),
};
TABLE(content_read_request, struct content_read_request);
static const struct proto_field content_read_response_fields[] = {
    PROTO_FIELD(1, PROTO_INT64, struct content_read_response, offset),
    PROTO_FIELD(2, PROTO_BYTES, struct content_read_response, data),
};
TABLE(content_read_response, struct content_read_response);

static const struct proto_field content_write_request_fields[] = {
    PROTO_FIELD(1, PROTO_INT32, struct content_write_request, action),  PROTO_FIELD(2, PROTO_TEXT, struct content_write_request, ref),
    PROTO_FIELD(3, PROTO_INT64, struct content_write_request, total),   PROTO_FIELD(4, PROTO_TEXT, struct content_write_request, expected),
    PROTO_FIELD(5, PROTO_INT64, struct content_write_request, offset),  PROTO_FIELD(6, PROTO_BYTES, struct content_write_request, data),
};
TABLE(content_write_request, struct content_write_request);
static const struct proto_field content_write_response_fields[] = {
    PROTO_FIELD(1, PROTO_INT32, struct content_write_response, action),
    PROTO_FIELD(4, PROTO_INT64, struct content_write_response, offset),
    PROTO_FIELD(5, PROTO_INT64, struct content_write_response, total),
    PROTO_FIELD(6, PROTO_TEXT, struct content_write_response, digest),
};
TABLE(content_write_response, struct content_write_response);
