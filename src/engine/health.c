// When a probe is due, what its result means, and what is remembered of it. health.h has the model.
#include "health.h"

#include "spec/spec.h"

#define INTERVAL_NS (30 * NS_PER_S)
#define START_INTERVAL_NS (5 * NS_PER_S)
#define TIMEOUT_NS (30 * NS_PER_S)
#define RETRIES 3

static const char *const status_words[] = { "starting", "healthy", "unhealthy" };

static int64_t or_default(int64_t value, int64_t otherwise)
{
    return value > 0 ? value : otherwise;
}

// ---- what was asked for ---------------------------------------------------------------------------------------------

bool health_is_off(const struct oci_healthcheck *health)
{
    return health && health->test.len > 0 && str_eq(health->test.items[0], "NONE");
}

int health_check_config(const struct oci_healthcheck *health, struct err *err)
{
    if (!health)
        return 0;
    const struct {
        const char *name;
        int64_t value;
    } times[] = { { "Interval", health->interval }, { "Timeout", health->timeout }, { "StartPeriod", health->start_period },
                  { "StartInterval", health->start_interval } };
    for (size_t i = 0; i < ARRAY_LEN(times); i++)
        if (times[i].value && times[i].value < NS_PER_MS)
            return err_set(err, ERR_INVALID_ARGUMENT, "%s in Healthcheck cannot be less than 1ms", times[i].name);
    if (health->retries < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "Retries in Healthcheck cannot be negative");
    return 0;
}

// What does not begin with one of the two words is no check: Docker passes over it as well.
static bool is_wanted(const struct container *container)
{
    const struct oci_healthcheck *check = container->config.process.healthcheck;
    return check && check->test.len > 1 && (str_eq(check->test.items[0], "CMD") || str_eq(check->test.items[0], "CMD-SHELL"));
}

// CMD-SHELL's text is for the image's shell.
static void fill_command(const struct oci_image_process *process, struct arena *arena, struct strv *out)
{
    const struct oci_healthcheck *check = process->healthcheck;
    bool shell = str_eq(check->test.items[0], "CMD-SHELL");
    for (size_t i = 0; shell && i < process->shell.len; i++)
        strv_push_arena(out, arena, process->shell.items[i]);
    if (shell && process->shell.len == 0) {
        strv_push_arena(out, arena, "/bin/sh");
        strv_push_arena(out, arena, "-c");
    }
    for (size_t i = 1; i < check->test.len; i++)
        strv_push_arena(out, arena, check->test.items[i]);
}

// ---- the record -----------------------------------------------------------------------------------------------------

struct health_form {
    char *status, *exec_id;
    int64_t failing_streak;
    struct json_list log; // struct health_result
};
static const struct json_field result_fields[] = {
    JSON_FIELD("start_ns", JSON_INT, struct health_result, start_ns),
    JSON_FIELD("end_ns", JSON_INT, struct health_result, end_ns),
    JSON_FIELD("exit_code", JSON_INT, struct health_result, exit_code),
    JSON_FIELD("output", JSON_TEXT, struct health_result, output),
};
static const struct json_table result_table = JSON_TABLE(struct health_result, result_fields);
static const struct json_field form_fields[] = {
    JSON_FIELD("status", JSON_TEXT, struct health_form, status),
    JSON_FIELD("exec_id", JSON_TEXT, struct health_form, exec_id),
    JSON_FIELD("failing_streak", JSON_INT, struct health_form, failing_streak),
    JSON_FIELD("log", JSON_LIST, struct health_form, log, .sub = &result_table),
};
static const struct json_table form_table = JSON_TABLE(struct health_form, form_fields);

char *health_text(const struct container *container)
{
    const struct health *health = container->health;
    if (!health)
        return NULL;
    const struct health_form form = { (char *)status_words[health->status], (char *)health->exec_id, health->failing_streak,
                                      { .items = (void *)health->log, .len = health->log_len } };
    _cleanup_json_ json_t *object = json_encode(&form_table, &form);
    return json_text(object);
}

static struct health *ensure(struct container *container) REQUIRES(container->lock)
{
    if (!container->health) {
        container->health = mem_new(struct health);
        random_hex(container->health->exec_id, 64);
    }
    return container->health;
}

static void add_result(struct health *health, const struct health_result *result)
{
    if (health->log_len == HEALTH_LOG_MAX) {
        free(health->log[0].output);
        memmove(health->log, health->log + 1, (HEALTH_LOG_MAX - 1) * sizeof(*health->log));
        health->log_len--;
    }
    health->log[health->log_len] = *result;
    health->log[health->log_len++].output = mem_strdup(result->output ? result->output : "");
}

UNCHECKED void health_parse(struct container *container, const char *text)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct health_form form;
    if (!text || json_decode_text(&form_table, text, strlen(text), &form, &arena, NULL, NULL) < 0)
        return;
    struct health *health = ensure(container);
    for (size_t i = 0; i < ARRAY_LEN(status_words); i++)
        if (str_eq(form.status, status_words[i]))
            health->status = (enum health_status)i;
    health->failing_streak = form.failing_streak;
    if (!str_empty(form.exec_id))
        snprintf(health->exec_id, sizeof(health->exec_id), "%s", form.exec_id);
    for (size_t i = 0; i < form.log.len; i++)
        add_result(health, json_list_at(&form.log, &result_table, i));
}

void health_free(struct container *container)
{
    struct health *health = take_ptr(&container->health);
    if (!health)
        return;
    for (size_t i = 0; i < health->log_len; i++)
        free(health->log[i].output);
    probe_free(health->probe);
    free(health);
}

// Its reference would keep the container.
void health_abandon(struct container *container)
{
    if (container->health)
        probe_free(take_ptr(&container->health->probe));
}

struct engine_health *health_copy(const struct container *container, struct arena *arena)
{
    const struct health *health = container->health;
    if (!health || !is_wanted(container))
        return NULL;
    struct engine_health *out = arena_alloc(arena, sizeof(*out));
    *out = (struct engine_health){ .status = status_words[health->status], .failing_streak = health->failing_streak };
    out->log = arena_alloc(arena, (health->log_len + 1) * sizeof(*out->log));
    for (size_t i = 0; i < health->log_len; i++)
        out->log[out->log_len++] = (struct engine_health_result){ health->log[i].start_ns, health->log[i].end_ns,
                                                                  health->log[i].exit_code,
                                                                  arena_strdup(arena, health->log[i].output) };
    return out;
}

// ---- when -----------------------------------------------------------------------------------------------------------

static void run_probe(struct container *container);

// In the start period probes may come more often, until the first that is good.
static int64_t next_interval(const struct container *container) REQUIRES(container->lock)
{
    const struct oci_healthcheck *check = container->config.process.healthcheck;
    bool early = clock_wall_ns() - container->state.started_ns < check->start_period;
    return early && container->health->status == HEALTH_STARTING ? or_default(check->start_interval, START_INTERVAL_NS)
                                                                 : or_default(check->interval, INTERVAL_NS);
}

static void schedule(struct container *container)
{
    mutex_lock(&container->lock);
    bool active = container->health && container->health->active;
    int64_t delay_ns = active ? next_interval(container) : 0;
    mutex_unlock(&container->lock);
    if (active)
        later_queue(container, &container->engine->starters, run_probe, delay_ns);
}

void health_begin(struct container *container)
{
    if (!is_wanted(container))
        return;
    mutex_lock(&container->lock);
    struct health *health = ensure(container);
    health->status = HEALTH_STARTING;
    health->failing_streak = 0;
    health->active = true;
    mutex_unlock(&container->lock);
    record_note_health(container);
    schedule(container);
}

// Whoever looks at the health of what has no check running sees that it is not healthy, as with Docker.
static void halt(struct container *container) REQUIRES(container->lock)
{
    struct health *health = container->health;
    if (!health)
        return;
    health->active = false;
    health->status = HEALTH_UNHEALTHY;
    if (health->probe)
        health->probe->dropped = true;
}

void health_end(struct container *container)
{
    mutex_lock(&container->lock);
    bool known = container->health;
    halt(container);
    mutex_unlock(&container->lock);
    if (!known)
        return;
    later_cancel(container, run_probe);
    record_note_health(container);
}

void health_pause(struct container *container, bool paused)
{
    if (paused) {
        health_end(container);
        return;
    }
    mutex_lock(&container->lock);
    if (container->health)
        container->health->active = true;
    mutex_unlock(&container->lock);
    schedule(container);
}

void health_adopt(struct container *container, const struct strv *execs)
{
    if (!is_wanted(container))
        return;
    mutex_lock(&container->lock);
    struct health *health = ensure(container);
    bool stray = !health->probe && strv_has(execs, health->exec_id), begins = !health->active;
    health->active = container->state.status == STATUS_RUNNING;
    mutex_unlock(&container->lock);
    if (stray)
        probe_kill(container);
    if (begins)
        schedule(container);
}

// ---- one probe ------------------------------------------------------------------------------------------------------

static bool is_early_failure(const struct container *container, const struct health_result *result) REQUIRES(container->lock)
{
    return container->health->status == HEALTH_STARTING &&
           result->start_ns - container->state.started_ns < container->config.process.healthcheck->start_period;
}

static void judge(struct container *container, const struct health_result *result)
{
    mutex_lock(&container->lock);
    struct health *health = container->health;
    enum health_status before = health->status;
    add_result(health, result);
    if (result->exit_code == 0) {
        health->failing_streak = 0;
        health->status = HEALTH_HEALTHY;
    } else if (!is_early_failure(container, result) &&
               ++health->failing_streak >= or_default(container->config.process.healthcheck->retries, RETRIES)) {
        health->status = HEALTH_UNHEALTHY;
    }
    enum health_status after = health->status;
    random_hex(health->exec_id, 64); // the next one's
    mutex_unlock(&container->lock);
    record_note_health(container);
    char action[32];
    snprintf(action, sizeof(action), "health_status: %s", status_words[after]);
    if (after != before)
        event_container(container, action, NULL);
}

static void time_out(struct container *container)
{
    if (container_begin(container, NULL) < 0)
        return;
    mutex_lock(&container->lock);
    struct probe *probe = container->health ? container->health->probe : NULL;
    bool due = probe && !probe->ended;
    if (due)
        probe->timed_out = true;
    mutex_unlock(&container->lock);
    if (due)
        probe_kill(container);
    container_end(container);
}

static void try_probe(struct container *container)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    const struct oci_image_process *process = &container->config.process;
    struct exec_config config = { .attach_stdout = true, .attach_stderr = true };
    struct err err = { 0 };
    const int64_t start_ns = clock_wall_ns();
    fill_command(process, &arena, &config.cmd);
    if (probe_start(container, &config, &err) == 0) {
        later_queue(container, &container->engine->workers, time_out, or_default(process->healthcheck->timeout, TIMEOUT_NS));
        return;
    }
    const struct health_result failed = { start_ns, clock_wall_ns(), -1, err.message };
    judge(container, &failed);
    schedule(container);
}

static void run_probe(struct container *container)
{
    if (container_begin(container, NULL) < 0)
        return;
    mutex_lock(&container->lock);
    bool active = container->health && container->health->active && container->state.status == STATUS_RUNNING;
    bool busy = active && container->health->probe; // one that was dropped is not over yet
    mutex_unlock(&container->lock);
    if (busy)
        schedule(container);
    else if (active)
        try_probe(container);
    container_end(container);
}

static char *output_of(const struct container *container, const struct probe *probe, struct arena *arena)
{
    char *text = arena_strndup(arena, probe->output, probe->size);
    if (probe->truncated)
        text = arena_printf(arena, "%s...", text);
    if (!probe->timed_out)
        return text;
    char duration[32];
    clock_duration(or_default(container->config.process.healthcheck->timeout, TIMEOUT_NS), duration);
    return arena_printf(arena, "Health check exceeded timeout (%s)%s%s", duration, *text ? ": " : "", text);
}

// The exit code came before the end of the output: the shim waits for us to have it.
static void conclude(struct container *container, struct probe *probe, int64_t exit_code)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    const struct health_result result = { probe->start_ns, probe->end_ns, probe->timed_out ? -1 : exit_code,
                                          output_of(container, probe, &arena) };
    judge(container, &result);
    schedule(container);
}

void health_collect(struct container *container)
{
    int64_t exit_code = -1;
    if (container_begin(container, NULL) < 0)
        return;
    mutex_lock(&container->lock);
    struct health *health = container->health;
    struct probe *probe = health && health->probe && health->probe->ended ? take_ptr(&health->probe) : NULL;
    if (probe)
        exec_forget(container, health->exec_id, &exit_code);
    bool wanted = probe && !probe->dropped && container->state.status == STATUS_RUNNING;
    if (probe && !wanted)
        random_hex(health->exec_id, 64);
    mutex_unlock(&container->lock);
    if (probe)
        later_cancel(container, time_out);
    if (wanted)
        conclude(container, probe, exit_code);
    probe_free(probe);
    container_end(container);
}
