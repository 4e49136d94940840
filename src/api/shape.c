// The small pieces of Docker's JSON shapes.
#include "api_private.h"

json_t *shape_texts(const struct strv *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->len; i++)
        json_array_append_new(array, shape_text(list->items[i]));
    return array;
}

json_t *shape_texts_or_null(const struct strv *list)
{
    return list->len ? shape_texts(list) : json_null();
}

json_t *shape_map(const struct kvs *map)
{
    json_t *object = json_object();
    for (size_t i = 0; i < map->len; i++)
        json_object_set_new(object, map->items[i].key, shape_text(map->items[i].value));
    return object;
}

json_t *shape_keys(const struct strv *list)
{
    json_t *object = json_object();
    for (size_t i = 0; i < list->len; i++)
        json_object_set_new(object, list->items[i], json_object());
    return object;
}

json_t *shape_time(int64_t ns)
{
    char text[CLOCK_TEXT_SIZE];
    clock_format(ns, text);
    return json_string(text);
}

json_t *shape_time_seconds(int64_t ns)
{
    return shape_time(ns - ns % NS_PER_S);
}

json_t *shape_text(const char *text)
{
    json_t *value = json_string(text ? text : "");
    return value ? value : json_string(""); // a host's path need not be UTF-8
}

void shape_process(json_t *object, const struct oci_image_process *process)
{
    json_object_set_new(object, "User", shape_text(process->user));
    if (process->exposed_ports.len)
        json_object_set_new(object, "ExposedPorts", shape_keys(&process->exposed_ports));
    json_object_set_new(object, "Env", shape_texts_or_null(&process->env));
    json_object_set_new(object, "Cmd", shape_texts_or_null(&process->cmd));
    json_object_set_new(object, "Volumes", process->volumes.len ? shape_keys(&process->volumes) : json_null());
    json_object_set_new(object, "WorkingDir", shape_text(process->working_dir));
    json_object_set_new(object, "Entrypoint", shape_texts_or_null(&process->entrypoint));
    json_object_set_new(object, "OnBuild", shape_texts_or_null(&process->on_build));
    if (process->shell.len)
        json_object_set_new(object, "Shell", shape_texts(&process->shell));
    if (!str_empty(process->stop_signal))
        json_object_set_new(object, "StopSignal", shape_text(process->stop_signal));
    if (process->healthcheck)
        json_object_set_new(object, "Healthcheck", json_encode(&oci_healthcheck_table, process->healthcheck));
}

// ---- words for people -----------------------------------------------------------------------------------------------

void duration_words(int64_t ns, char *out, size_t size)
{
    static const struct {
        int64_t below, unit; // in hours
        const char *word;
    } steps[] = { { 48, 1, "hours" },
                  { 24 * 7 * 2, 24, "days" },
                  { 24 * 30 * 2, 24 * 7, "weeks" },
                  { 24 * 365 * 2, 24 * 30, "months" },
                  { INT64_MAX, 24 * 365, "years" } };
    int64_t seconds = ns / NS_PER_S, minutes = seconds / 60, hours = (seconds + 1800) / 3600;
    size_t step = 0;
    if (seconds < 1)
        snprintf(out, size, "Less than a second");
    else if (seconds == 1)
        snprintf(out, size, "1 second");
    else if (seconds < 60)
        snprintf(out, size, "%lld seconds", (long long)seconds);
    else if (minutes == 1)
        snprintf(out, size, "About a minute");
    else if (minutes < 60)
        snprintf(out, size, "%lld minutes", (long long)minutes);
    else if (hours == 1)
        snprintf(out, size, "About an hour");
    else {
        while (hours >= steps[step].below)
            step++;
        snprintf(out, size, "%lld %s", (long long)(hours / steps[step].unit), steps[step].word);
    }
}

char *status_words(const struct engine_container *container, int64_t now_ns, struct arena *arena)
{
    char words[64];
    if (container->restarting) {
        duration_words(now_ns - container->finished_ns, words, sizeof(words));
        return arena_printf(arena, "Restarting (%lld) %s ago", (long long)container->exit_code, words);
    }
    if (container->running) {
        duration_words(now_ns - container->started_ns, words, sizeof(words));
        if (!container->health || container->paused)
            return arena_printf(arena, "Up %s%s", words, container->paused ? " (Paused)" : "");
        const char *health = container->health->status;
        return arena_printf(arena, "Up %s (%s%s)", words, str_eq(health, "starting") ? "health: " : "", health);
    }
    if (str_eq(container->status, "removing"))
        return arena_strdup(arena, "Removal In Progress");
    if (str_eq(container->status, "dead"))
        return arena_strdup(arena, "Dead");
    if (container->started_ns == 0)
        return arena_strdup(arena, "Created");
    if (container->finished_ns == 0)
        return arena_strdup(arena, "");
    duration_words(now_ns - container->finished_ns, words, sizeof(words));
    return arena_printf(arena, "Exited (%lld) %s ago", (long long)container->exit_code, words);
}

// ---- events and execs -----------------------------------------------------------------------------------------------

json_t *shape_event(const struct engine_event *event)
{
    const char *image = kvs_get(&event->attributes, "image");
    json_t *object = json_object();
    // What an event was before API 1.22; clients of all versions here may still read it.
    if (str_eq(event->type, "container") || str_eq(event->type, "image")) {
        json_object_set_new(object, "status", shape_text(event->action));
        json_object_set_new(object, "id", shape_text(event->actor_id));
        if (str_eq(event->type, "container") && image)
            json_object_set_new(object, "from", shape_text(image));
    }
    json_object_set_new(object, "Type", shape_text(event->type));
    json_object_set_new(object, "Action", shape_text(event->action));
    json_object_set_new(
        object, "Actor",
        json_pack("{s:o, s:o}", "ID", shape_text(event->actor_id), "Attributes", shape_map(&event->attributes)));
    json_object_set_new(object, "scope", json_string("local"));
    json_object_set_new(object, "time", json_integer(event->time_ns / NS_PER_S));
    json_object_set_new(object, "timeNano", json_integer(event->time_ns));
    return object;
}

json_t *shape_exec(const struct engine_exec *exec)
{
    const struct exec_config *config = exec->config;
    json_t *process =
        json_pack("{s:b, s:o, s:o, s:b}", "tty", config->tty, "entrypoint",
                  shape_text(config->cmd.len ? config->cmd.items[0] : ""), "arguments", json_array(), "privileged", config->privileged);
    for (size_t i = 1; i < config->cmd.len; i++)
        json_array_append_new(json_object_get(process, "arguments"), shape_text(config->cmd.items[i]));
    if (!str_empty(config->user))
        json_object_set_new(process, "user", shape_text(config->user));
    // The code is null until there is one.
    json_t *code = exec->started && !exec->running ? json_integer(exec->exit_code) : json_null();
    return json_pack("{s:s, s:b, s:o, s:o, s:b, s:b, s:b, s:b, s:s, s:s, s:I}", "ID", exec->id, "Running",
                     exec->running, "ExitCode", code, "ProcessConfig", process, "OpenStdin", config->attach_stdin,
                     "OpenStderr", config->attach_stderr, "OpenStdout", config->attach_stdout, "CanRemove", 0,
                     "ContainerID", exec->container_id, "DetachKeys", "", "Pid", (json_int_t)exec->pid);
}
