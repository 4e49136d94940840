// GET /metrics: counters in Prometheus' text form.
#include "registry_private.h"

void metrics_count(struct registry *registry, int status)
{
    size_t class = (size_t)status / 100;
    if (class < ARRAY_LEN(registry->metrics.answers))
        atomic_fetch_add_explicit(&registry->metrics.answers[class], 1, memory_order_relaxed);
}

void metrics_bytes(struct registry *registry, enum metric_direction direction, int64_t bytes)
{
    atomic_fetch_add_explicit(&registry->metrics.bytes[direction], bytes, memory_order_relaxed);
}

static int take_sums(void *context, const struct store_row *row, struct err *err)
{
    int64_t *sums = context;
    for (int i = 0; i < 4; i++)
        sums[i] = store_int(row, i);
    return 0;
}

static void add(struct buf *text, const char *name, const char *type, const char *help)
{
    buf_addf(text, "# HELP berth_registry_%s %s\n# TYPE berth_registry_%s %s\n", name, help, name, type);
}

static void add_one(struct buf *text, const char *name, const char *help, int64_t value)
{
    add(text, name, "gauge", help);
    buf_addf(text, "berth_registry_%s %lld\n", name, (long long)value);
}

void handle_metrics(struct call *call)
{
    struct metrics *metrics = &call->registry->metrics;
    int64_t sums[4] = { 0 };
    struct err err = { 0 };
    _cleanup_buf_ struct buf text = BUF_INIT(64 << 10);
    if (store_query(call->registry->store, &err, take_sums, sums,
                    "SELECT (SELECT COUNT(*) FROM blobs), (SELECT COALESCE(SUM(size), 0) FROM blobs),"
                    " (SELECT COUNT(*) FROM manifests), (SELECT COUNT(*) FROM uploads)", "") < 0) {
        call_failed(call, &err);
        return;
    }
    add(&text, "answers_total", "counter", "Requests answered, by the first digit of the status.");
    for (size_t i = 2; i < ARRAY_LEN(metrics->answers); i++)
        buf_addf(&text, "berth_registry_answers_total{code=\"%zuxx\"} %lld\n", i, (long long)atomic_load(&metrics->answers[i]));
    add(&text, "blob_bytes_total", "counter", "Bytes of blobs and manifests that arrived or were sent.");
    static const char *const directions[] = { [BYTES_IN] = "in", [BYTES_OUT] = "out" };
    for (size_t i = 0; i < ARRAY_LEN(directions); i++)
        buf_addf(&text, "berth_registry_blob_bytes_total{direction=\"%s\"} %lld\n", directions[i],
                 (long long)atomic_load(&metrics->bytes[i]));
    add_one(&text, "blobs", "Blobs and manifests that are stored.", sums[0]);
    add_one(&text, "stored_bytes", "Bytes of them.", sums[1]);
    add_one(&text, "manifests", "Manifests of all repositories.", sums[2]);
    add_one(&text, "uploads", "Uploads under way.", sums[3]);
    metrics_count(call->registry, 200);
    httpd_reply(call->request, 200, "text/plain; version=0.0.4", text.data, text.size);
}
