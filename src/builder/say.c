// What the client reads: Docker's classic stream, a JSON object for each piece of text.
//
// Stages that run at the same time would be a muddle there: they speak in the file's order. The uppermost that is not finished says what it does while
// it does it, what the others have to say is kept until their turn. A client that takes what comes as it comes (`live`) is told of which stage each piece is.
#include <stdarg.h>

#include "builder_private.h"

#define HELD_MAX ((size_t)16 << 20) // bytes of a stage that are kept

// ---- whose turn it is -----------------------------------------------------------------------------------------------

static bool speaks(const struct build *build) REQUIRES(&build->crew->voice)
{
    if (build->request->quiet)
        return false;
    return !build->stage || build->request->live || build->stage->index <= build->crew->speaker;
}

static void hold(struct build *build, json_t *object, size_t size)
{
    static const char clipped[] = "\n[output clipped: the stage has said more than 16 MiB before its turn came]\n";
    struct held *held = &build->held;
    bool full = held->size > HELD_MAX;
    held->size += size;
    if (!held->lines)
        held->lines = json_array();
    if (held->size <= HELD_MAX)
        json_array_append(held->lines, object);
    else if (!full)
        json_array_append_new(held->lines, json_pack("{s:s}", "stream", clipped));
}

static void release(struct build *build)
{
    for (size_t i = 0; i < json_array_size(build->held.lines); i++)
        build->progress(build->progress_of, json_array_get(build->held.lines, i));
    json_decref(build->held.lines);
    build->held = (struct held){ 0 };
}

static void utter(struct build *build, json_t *object, size_t size)
{
    if (build->request->live && build->stage)
        json_object_set_new(object, "stage", json_integer((json_int_t)build->stage->index));
    mutex_lock(&build->crew->voice);
    if (speaks(build))
        build->progress(build->progress_of, object);
    else
        hold(build, object, size);
    mutex_unlock(&build->crew->voice);
}

// NULL: it is not begun.
static struct build *view_of(const struct build *build, size_t index, bool *needed)
{
    struct crew *crew = build->crew;
    mutex_lock(&crew->lock);
    struct build *view = build->stages[index].build;
    *needed = build->graph->nodes[index].needed;
    mutex_unlock(&crew->lock);
    return view;
}

// The first that has something to say, from `at` on.
static void find_speaker(const struct build *build, size_t at) REQUIRES(&build->crew->voice)
{
    struct crew *crew = build->crew;
    bool needed;
    for (crew->speaker = at; crew->speaker < build->graph->len; crew->speaker++) {
        struct build *view = view_of(build, crew->speaker, &needed);
        if (view && !build->request->quiet)
            release(view);
        if (needed && !build->stages[crew->speaker].silent)
            break;
    }
}

void say_begin(struct build *build)
{
    mutex_lock(&build->crew->voice);
    find_speaker(build, 0);
    mutex_unlock(&build->crew->voice);
}

void say_down(struct stage *stage, const char *how)
{
    _cleanup_json_ json_t *object = json_pack("{s:s}", "end", how);
    if (stage->build->request->live)
        utter(stage->build, object, 0);
}

void say_end(struct stage *stage)
{
    struct build *build = stage->build;
    say_down(stage, "finished");
    mutex_lock(&build->crew->voice);
    stage->silent = true;
    if (stage->index == build->crew->speaker)
        find_speaker(build, stage->index);
    mutex_unlock(&build->crew->voice);
}

void say_held(struct build *build)
{
    struct crew *crew = build->crew;
    mutex_lock(&crew->voice);
    release(build);
    for (size_t i = 0; build->stages && i < build->graph->len; i++)
        if (build->stages[i].build && (build->request->quiet || &build->stages[i] == crew->failed))
            release(build->stages[i].build);
    mutex_unlock(&crew->voice);
}

// ---- words ----------------------------------------------------------------------------------------------------------

static void send(struct build *build, const char *key, json_t *take, size_t size)
{
    _cleanup_json_ json_t *object = json_object();
    json_object_set_new(object, key, take);
    utter(build, object, size);
}

void say_text(struct build *build, const char *text, size_t size)
{
    _cleanup_free_ char *copy = mem_strndup(text, size);
    send(build, "stream", json_new_text(copy), size);
}

void say(struct build *build, const char *fmt, ...)
{
    struct buf text = BUF_INIT(DOCKERFILE_SIZE_MAX + 1024);
    va_list args;
    va_start(args, fmt);
    buf_vaddf(&text, fmt, args);
    va_end(args);
    say_text(build, buf_text(&text), text.size);
    buf_done(&text);
}

// "Step 1/3 : text"; who gets it live also gets where in its stage the step is: "2/4", or "name 2/4" where there are several.
void say_step(struct build *build, const char *text)
{
    struct crew *crew = build->crew;
    mutex_lock(&crew->lock);
    unsigned steps = crew->steps;
    mutex_unlock(&crew->lock);
    _cleanup_json_ json_t *object = json_object();
    _cleanup_free_ char *line = mem_printf("Step %u/%u : %s\n", ++build->step, steps, text);
    json_object_set_new(object, "stream", json_new_text(line));
    if (build->stage && build->request->live) {
        const struct graph_node *node = &build->graph->nodes[build->stage->index];
        bool alone = build->graph->needed_len == 1;
        json_object_set_new(object, "label", json_sprintf("%s%s%zu/%zu", alone ? "" : node->label, alone ? "" : " ", ++build->stage->said, node->stage->len + 1));
    }
    utter(build, object, strlen(line));
}

static const char *short_id(const char *id)
{
    return id ? str_starts(id, "sha256:") ? id + 7 : id : "";
}

void say_image(struct build *build, const char *id)
{
    say(build, " ---> %.12s\n", short_id(id));
}

void say_aux(struct build *build, const char *id)
{
    if (id && !build->request->quiet)
        send(build, "aux", json_pack("{s:s}", "ID", id), 128);
}

// A pull's progress is news only while it happens, and others may read the same object.
int say_progress(void *of, json_t *object)
{
    struct build *build = of;
    _cleanup_json_ json_t *copy = json_copy(object);
    if (build->request->live && build->stage)
        json_object_set_new(copy, "stage", json_integer((json_int_t)build->stage->index));
    mutex_lock(&build->crew->voice);
    int result = speaks(build) ? build->progress(build->progress_of, copy) : 0;
    mutex_unlock(&build->crew->voice);
    return result;
}
