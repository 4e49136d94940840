// Progress: steps as vertices, told as they happen. A vertex is said again with each change; its digest is its name.
#include "base/num.h"
#include "buildkit_private.h"

void progress_tell(struct solve *solve, const struct status_response *event)
{
    _cleanup_buf_ struct buf bytes = BUF_INIT(MESSAGE_MAX);
    proto_encode(&status_response_table, event, &bytes);
    mutex_lock(&solve->buildkit->lock);
    if (!bytes.overflow)
        buf_add(&solve->events, bytes.data, bytes.size); // past the ceiling: nothing
    cond_wake_all(&solve->buildkit->told);
    mutex_unlock(&solve->buildkit->lock);
}

static void tell_vertex(const struct step *step, int64_t completed_ns, const char *error)
{
    struct vertex vertex = { .digest = (char *)step->digest, .name = step->name, .error = (char *)error, .cached = step->cached,
                             .started_ns = step->started_ns, .completed_ns = completed_ns };
    const struct status_response event = { .vertexes = { &vertex, 1 } };
    progress_tell(step->solve, &event);
}

void step_start(struct step *step, struct solve *solve, const char *name)
{
    *step = (struct step){ .solve = solve, .name = mem_strdup(name), .started_ns = clock_wall_ns(), .running = true };
    memcpy(step->digest, "sha256:", 7);
    random_hex(step->digest + 7, 64);
    mutex_lock(&solve->buildkit->lock);
    solve->total++;
    mutex_unlock(&solve->buildkit->lock);
    tell_vertex(step, 0, NULL);
}

static void log_part(struct step *step, struct slice text)
{
    enum { STDOUT = 1 };
    struct vertex_log log = { step->digest, clock_wall_ns(), STDOUT, text };
    const struct status_response event = { .logs = { &log, 1 } };
    progress_tell(step->solve, &event);
}

void step_log(struct step *step, struct slice text)
{
    static const char clipped[] = "\n[output clipped, log limit 2MiB reached]\n";
    if (!step->running || step->log_size > STEP_LOG_MAX || text.size == 0)
        return;
    size_t left = STEP_LOG_MAX - step->log_size;
    step->log_size += text.size;
    log_part(step, (struct slice){ text.data, MIN_OF(text.size, left) });
    if (step->log_size > STEP_LOG_MAX)
        log_part(step, (struct slice){ clipped, sizeof(clipped) - 1 });
}

void step_status(struct step *step, const char *id, int64_t current, int64_t total, bool completed)
{
    int64_t now_ns = clock_wall_ns();
    struct vertex_status status = { (char *)id, step->digest, (char *)id, current, total, now_ns, step->started_ns, completed ? now_ns : 0 };
    const struct status_response event = { .statuses = { &status, 1 } };
    if (step->running)
        progress_tell(step->solve, &event);
}

void step_end(struct step *step, const struct err *failure)
{
    if (!step->running)
        return;
    step->running = false;
    mutex_lock(&step->solve->buildkit->lock);
    step->solve->completed++;
    step->solve->cached += step->cached;
    mutex_unlock(&step->solve->buildkit->lock);
    tell_vertex(step, clock_wall_ns(), failure ? failure->message : NULL);
    free(step->name);
    step->name = NULL;
}

// ---- the classic stream ---------------------------------------------------------------------------------------------

#define STAGES_MAX 4096 // as a Dockerfile has at most

// "Step 2/5 : RUN make\n" begins a step: its name becomes "[2/5] RUN make", or what the label says is in the brackets.
static bool take_step(struct stream *stream, struct step *step, const char *text, const char *label)
{
    unsigned number, of;
    int at = 0;
    if (sscanf(text, "Step %u/%u : %n", &number, &of, &at) < 2 || at == 0)
        return false;
    struct slice rest = slice_trim(slice_of(text + at));
    _cleanup_free_ char *place = label ? mem_strdup(label) : mem_printf("%u/%u", number, of),
                        *name = mem_printf("[%s%s%s] %.*s", stream->platform ? stream->platform : "", stream->platform ? " " : "", place, (int)MIN_OF(rest.size, (size_t)2000), rest.data);
    step_end(step, NULL);
    step_start(step, stream->solve, name);
    return true;
}

// What the classic builder says about its own doings, and BuildKit doesn't.
static bool is_chatter(const char *text)
{
    static const char *const heads[] = { " ---> ", "Removing intermediate container", "Successfully built ", "Successfully tagged ", " ---> [Warning]" };
    for (size_t i = 0; i < ARRAY_LEN(heads); i++)
        if (str_starts(text, heads[i]))
            return true;
    return false;
}

static void take_text(struct stream *stream, struct step *step, const char *text, const char *label)
{
    if (take_step(stream, step, text, label))
        return;
    if (str_starts(text, " ---> Using cache"))
        step->cached = true;
    else if (!is_chatter(text))
        step_log(step, slice_of(text));
}

// A pull's line: {"status": "Downloading", "id": "ab12", "progressDetail": {"current": 1, "total": 2}}.
static void take_status(struct step *step, const char *status, const json_t *object)
{
    const json_t *detail = json_object_get(object, "progressDetail");
    const char *id = json_string_value(json_object_get(object, "id"));
    if (str_empty(id))
        return;
    _cleanup_free_ char *name = mem_printf("%.100s %.100s", status, id);
    int64_t current = json_integer_value(json_object_get(detail, "current")), total = json_integer_value(json_object_get(detail, "total"));
    step_status(step, name, current, total, json_object_size(detail) == 0);
}

static struct step *step_for(struct stream *stream, const json_t *object)
{
    const json_t *stage = json_object_get(object, "stage");
    size_t number = (size_t)json_integer_value(stage);
    if (!stage || number >= STAGES_MAX)
        return &stream->step;
    if (number >= stream->len) {
        stream->stages = mem_grow(stream->stages, (number + 1) * sizeof(*stream->stages));
        memset(stream->stages + stream->len, 0, (number + 1 - stream->len) * sizeof(*stream->stages));
        stream->len = number + 1;
    }
    return &stream->stages[number];
}

// The error of a step that did not end well comes with the end of all.
static void take_end(struct stream *stream, struct step *step, const char *how)
{
    if (str_eq(how, "failed") && !stream->failed)
        stream->failed = (size_t)(step - stream->stages) + 1;
    if (str_eq(how, "waits") || str_eq(how, "finished"))
        step_end(step, NULL);
}

int stream_take(void *context, json_t *object)
{
    struct stream *stream = context;
    const char *text = json_string_value(json_object_get(object, "stream")), *status = json_string_value(json_object_get(object, "status")),
               *how = json_string_value(json_object_get(object, "end"));
    struct step *step = step_for(stream, object);
    if (text)
        take_text(stream, step, text, json_string_value(json_object_get(object, "label")));
    else if (status)
        take_status(step, status, object);
    else if (how && step != &stream->step)
        take_end(stream, step, how);
    return 0;
}

// Of steps that run still, the failure is one's; the others were cancelled for it.
void stream_end(struct stream *stream, const struct err *failure)
{
    struct err cancelled = { 0 };
    err_set(&cancelled, ERR_CANCELLED, "context canceled");
    for (size_t i = 0; i < stream->len; i++)
        step_end(&stream->stages[i], !failure || i + 1 == stream->failed ? failure : &cancelled);
    step_end(&stream->step, failure);
    free(stream->stages);
    stream->stages = NULL;
    stream->len = 0;
}
