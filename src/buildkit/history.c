// The builds that there were: the last HISTORY_MAX of them, and those that are pinned. Their progress can be read again by Control.Status. What of
// them outlives the daemon is in history_disk.c.
#include "buildkit_private.h"

enum event_type { EVENT_STARTED, EVENT_COMPLETE };
enum { STATUS_CANCELLED = 1, STATUS_UNKNOWN = 2 };

struct shown {
    struct history_event event;
    struct history_record record;
    struct status_message error;
};

static void copy_pairs(const struct kvs *in, struct arena *arena, struct kvs *out)
{
    *out = (struct kvs){ .items = arena_alloc(arena, (in->len + 1) * sizeof(*out->items)) };
    for (size_t i = 0; i < in->len; i++)
        out->items[out->len++] = (struct kv){ arena_strdup(arena, in->items[i].key), arena_strdup(arena, in->items[i].value) };
}

void history_describe(struct solve *solve, const struct kvs *attributes)
{
    mutex_lock(&solve->buildkit->lock);
    if (solve->attributes.len == 0)
        copy_pairs(attributes, &solve->arena, &solve->attributes);
    mutex_unlock(&solve->buildkit->lock);
}

void history_end(struct solve *solve, const struct kvs *response, const struct err *failure)
{
    solve->over = true;
    solve->ended_ns = clock_wall_ns();
    solve->generation = ++solve->buildkit->generation;
    if (response)
        copy_pairs(response, &solve->arena, &solve->response);
    if (failure)
        solve->failure = *failure;
}

void history_restore(struct solve *solve, const struct history_record *record)
{
    solve->ref = mem_strdup(record->ref);
    solve->session = mem_strdup("");
    solve->over = solve->returned = true;
    solve->began_ns = record->created_ns;
    solve->ended_ns = record->completed_ns;
    solve->cached = record->cached;
    solve->total = record->total;
    solve->completed = record->completed;
    solve->attributes = record->attributes;
    solve->response = record->response;
    if (record->error)
        err_set(&solve->failure, record->error->code == STATUS_CANCELLED ? ERR_CANCELLED : ERR_INTERNAL, "%s",
                record->error->message ? record->error->message : "it failed");
}

// Copied: the solve may go as soon as the lock is free.
static struct shown *show(const struct solve *solve, struct arena *arena)
{
    struct shown *shown = arena_alloc(arena, sizeof(*shown));
    shown->record = (struct history_record){ .ref = arena_strdup(arena, solve->ref), .frontend = arena_strdup(arena, "dockerfile.v0"),
                                             .created_ns = solve->began_ns, .completed_ns = solve->ended_ns, .pinned = solve->pinned,
                                             .cached = solve->cached, .total = solve->total, .completed = solve->completed };
    copy_pairs(&solve->attributes, arena, &shown->record.attributes);
    copy_pairs(&solve->response, arena, &shown->record.response);
    if (solve->over && solve->failure.class != ERR_NONE) {
        shown->error = (struct status_message){ solve->failure.class == ERR_CANCELLED ? STATUS_CANCELLED : STATUS_UNKNOWN, arena_strdup(arena, solve->failure.message) };
        shown->record.error = &shown->error;
    }
    shown->event = (struct history_event){ solve->over ? EVENT_COMPLETE : EVENT_STARTED, &shown->record };
    return shown;
}

void history_encode(const struct solve *solve, struct buf *out)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    proto_encode(&history_event_table, &show(solve, &arena)->event, out);
}

// The oldest whose change was not told yet; NULL.
static struct shown *next_change(struct buildkit *buildkit, const struct history_request *asked, int64_t *seen, struct arena *arena)
    REQUIRES(&buildkit->lock)
{
    const struct solve *next = NULL;
    for (const struct solve *solve = buildkit->solves; solve; solve = solve->next) {
        bool wanted = !solve->internal && !solve->deleted && (str_empty(asked->ref) || str_eq(asked->ref, solve->ref)) && !(asked->active_only && solve->over);
        if (wanted && solve->generation > *seen && (!next || solve->generation < next->generation))
            next = solve;
    }
    if (!next)
        return NULL;
    *seen = next->generation;
    return show(next, arena);
}

// A client counts what it wants of a list from the newest back.
static void skip_old(struct buildkit *buildkit, const struct history_request *asked, int64_t *seen) REQUIRES(&buildkit->lock)
{
    int32_t left = asked->limit;
    for (const struct solve *solve = buildkit->solves; solve && asked->limit > 0; solve = solve->next)
        if (!solve->internal && !solve->deleted && left-- == 0) {
            *seen = solve->generation;
            return;
        }
}

// Filters are the client's to apply: it does so in any case, for daemons that know none.
int handle_history(void *context, struct grpc_call *call, struct err *err)
{
    struct buildkit *buildkit = context;
    struct history_request asked;
    const struct cancel *cancel = grpc_cancel(call);
    int64_t seen = 0;
    if (take_message(call, &history_request_table, &asked, err) < 0)
        return -1;
    mutex_lock(&buildkit->lock);
    skip_old(buildkit, &asked, &seen);
    mutex_unlock(&buildkit->lock);
    for (;;) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct shown *shown;
        mutex_lock(&buildkit->lock);
        while (!(shown = next_change(buildkit, &asked, &seen, &arena)) && !asked.early_exit && !cancel_now(cancel))
            cond_wait_until(&buildkit->changed, &buildkit->lock, clock_mono_ns() + NS_PER_S);
        mutex_unlock(&buildkit->lock);
        if (!shown)
            return 0;
        if (send_message(call, &history_event_table, &shown->event, err) < 0)
            return -1;
    }
}

static int change(struct solve *solve, const struct history_update *asked, struct err *err)
{
    if (asked->delete && !solve->over)
        return err_set(err, ERR_CONFLICT, "build %s is still running", solve->ref);
    if (asked->delete)
        solve->deleted = true;
    else if (!asked->finalize)
        history_pin(solve, asked->pinned);
    return 0;
}

int handle_history_update(void *context, struct grpc_call *call, struct err *err)
{
    const struct empty_message response = { 0 };
    struct buildkit *buildkit = context;
    struct history_update asked;
    if (take_message(call, &history_update_table, &asked, err) < 0)
        return -1;
    int result = -1;
    mutex_lock(&buildkit->lock);
    struct solve *solve = solve_find(buildkit, asked.ref ? asked.ref : "");
    if (!solve || solve->internal || solve->deleted)
        err_set(err, ERR_NOT_FOUND, "no build record found for %.128s", asked.ref ? asked.ref : "");
    else
        result = change(solve, &asked, err);
    solves_forget(buildkit);
    mutex_unlock(&buildkit->lock);
    return result < 0 ? -1 : send_message(call, &empty_table, &response, err);
}
