// How the container ended, for a daemon that was not there. Renamed into place but not synced: after a crash of the host
// the boot id in it is another one, and the record does not count.
#include <fcntl.h>

#include "base/slice.h"
#include "shim/shim_private.h"

int exit_record_write(int container_fd, int exit_code, int64_t time_ns, int64_t started_ns, bool oom, struct err *err)
{
    _cleanup_buf_ struct buf boot_id = BUF_INIT(128);
    if (file_read_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &boot_id, err) < 0)
        return -1;
    struct slice id = slice_trim((struct slice){ boot_id.data, boot_id.size });
    _cleanup_free_ char *id_text = mem_strndup(id.data, id.size);
    struct task_exit_record record = { exit_code, time_ns, started_ns, oom, id_text };
    _cleanup_json_ json_t *document = json_encode(&task_exit_record_table, &record);
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    json_write(document, &text);
    if (buf_check(&text, TASK_EXIT_RECORD_NAME, err) < 0)
        return -1;
    return file_write_at(container_fd, TASK_EXIT_RECORD_NAME, text.data, text.size, 0600, false, err);
}
