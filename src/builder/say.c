// What the client reads: Docker's classic stream, a JSON object for each piece of text.
#include <stdarg.h>

#include "builder_private.h"

static void send(struct build *build, const char *key, json_t *take)
{
    _cleanup_json_ json_t *object = json_object();
    json_object_set_new(object, key, take);
    build->progress(build->progress_of, object);
}

void say_text(struct build *build, const char *text, size_t size)
{
    _cleanup_free_ char *copy = mem_strndup(text, size);
    if (build->request->quiet)
        buf_add(&build->unsaid, text, size);
    else
        send(build, "stream", json_new_text(copy));
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

void say_step(struct build *build, const char *text)
{
    say(build, "Step %u/%u : %s\n", ++build->step, build->steps, text);
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
        send(build, "aux", json_pack("{s:s}", "ID", id));
}

int say_progress(void *of, json_t *object)
{
    struct build *build = of;
    return build->request->quiet ? 0 : build->progress(build->progress_of, object);
}

void say_unsaid(struct build *build)
{
    if (build->unsaid.size > 0)
        send(build, "stream", json_new_text(buf_text(&build->unsaid)));
}
