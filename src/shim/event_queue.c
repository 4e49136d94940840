#include "shim/shim_private.h"

static void event_free(struct event *event)
{
    free(event->event.kind);
    free(event->event.exec_id);
    free(event->event.message);
    free(event);
}

const struct task_event *event_queue_add(struct event_queue *queue, const struct task_event *event)
{
    struct event *entry = mem_new(struct event);
    entry->event = *event;
    entry->event.seq = ++queue->last_seq;
    entry->event.kind = mem_strdup(event->kind);
    entry->event.exec_id = mem_strdup(event->exec_id);
    entry->event.message = mem_strdup(event->message);
    if (!entry->event.time_ns)
        entry->event.time_ns = clock_wall_ns();
    if (queue->last)
        queue->last->next = entry;
    else
        queue->first = entry;
    queue->last = entry;
    queue->len++;
    return &entry->event;
}

bool event_queue_ack(struct event_queue *queue, int64_t seq)
{
    struct event *before = NULL;
    for (struct event *entry = queue->first; entry; before = entry, entry = entry->next) {
        if (entry->event.seq != seq)
            continue;
        if (before)
            before->next = entry->next;
        else
            queue->first = entry->next;
        if (queue->last == entry)
            queue->last = before;
        queue->len--;
        event_free(entry);
        return true;
    }
    return false;
}

void event_queue_done(struct event_queue *queue)
{
    while (queue->first)
        event_queue_ack(queue, queue->first->event.seq);
}
