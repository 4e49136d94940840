// rooms: task spec json base | jansson
// Bytes from the task socket: the frame reader, then the tables that a shim decodes requests with.
#include <sys/socket.h>

#include "task/task.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(json_t *payload)
{
    static const struct json_table *const tables[] = { &task_document_table, &task_exec_table, &task_event_table,
                                                       &task_state_table, &task_exit_record_table };
    for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
        _cleanup_(arena_done) struct arena arena = ARENA_INIT;
        _cleanup_free_ void *out = mem_alloc(tables[i]->size);
        json_t *document = json_object_get(payload, "document");
        json_decode(tables[i], document ? document : payload, out, &arena, NULL, NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int ends[2];
    struct task_reader *reader;
    if (size > 32768 || fd_socketpair(SOCK_STREAM, ends, NULL) < 0)
        return 0;
    bool with_fds = size && data[0] & 1;
    int fds[2] = { 0, 0 };
    if (size)
        fd_send(ends[0], data, size, fds, with_fds ? 2 : 0, NULL);
    fd_close(ends[0]);
    task_reader_new(ends[1], &reader);
    for (;;) {
        _cleanup_frame_ struct task_frame frame = { 0 };
        int got = task_reader_next(reader, &frame, NULL);
        if (got > 0)
            decode(frame.payload);
        if (got < 0 || (got == 0 && task_reader_feed(reader, NULL) <= 0))
            break;
    }
    task_reader_free(reader);
    fd_close(ends[1]);
    return 0;
}
