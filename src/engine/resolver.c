// Names of containers by DNS, the daemon's part: a list for each network of clients and the settings of each container, which the
// supervisors read (dns/dns.h). A name server is a supervisor's own: it goes on when the daemon is gone.
#include <errno.h>
#include <fcntl.h>

#include "dns/dns.h"
#include "engine_private.h"

enum { LIST_MAX = 64 << 20, LINE_MAX = 1 << 20 };

// ---- lists ----------------------------------------------------------------------------------------------------------

static int write_list(struct engine *engine, const char *network_id, const struct buf *list, struct err *err)
{
    if (list->size == 0)
        return unlinkat(engine->lists_fd, network_id, 0) == 0 || errno == ENOENT ? 0 : err_errno(err, errno, "names of a network");
    return file_write_at(engine->lists_fd, network_id, list->data, list->size, 0600, false, err);
}

// The text is edited as it is: a thousand containers on a network are some 100 kB, copied in less time than one looks at the clock.
static int edit_list(struct engine *engine, const char *network_id, const char *container_id, const char *line, struct err *err)
{
    _cleanup_buf_ struct buf old = BUF_INIT(LIST_MAX), list = BUF_INIT(LIST_MAX);
    mutex_lock(&engine->names_lock);
    file_read_at(engine->lists_fd, network_id, &old, NULL); // none yet: empty
    int result = 0;
    if (dns_list_edit((struct slice){ buf_text(&old), old.size }, container_id, line, &list))
        result = buf_check(&list, "names of a network", err) < 0 ? -1 : write_list(engine, network_id, &list, err);
    mutex_unlock(&engine->names_lock);
    return result;
}

int names_join(struct engine *engine, const char *network_id, const char *container_id, const char *address, const struct strv *names,
               struct err *err)
{
    _cleanup_buf_ struct buf line = BUF_INIT(LINE_MAX);
    dns_list_line(container_id, address, (const char *const *)names->items, names->len, &line);
    return buf_check(&line, "names of a container", err) < 0 ? -1
                                                              : edit_list(engine, network_id, container_id, buf_text(&line), err);
}

int names_leave(struct engine *engine, const char *network_id, const char *container_id, struct err *err)
{
    return edit_list(engine, network_id, container_id, NULL, err);
}

// Lines of containers that are not on the network any more: they ended, or left it, while no daemon was there or as it was killed.
void names_sweep(struct engine *engine, bool (*is_on)(struct engine *engine, const char *network_id, const char *container_id))
{
    _cleanup_strv_ struct strv networks = { 0 };
    file_list_names(engine->lists_fd, ".", &networks, NULL);
    for (size_t i = 0; i < networks.len; i++) {
        _cleanup_buf_ struct buf list = BUF_INIT(LIST_MAX);
        struct dns_entry entry;
        file_read_at(engine->lists_fd, networks.items[i], &list, NULL);
        struct slice rest = { buf_text(&list), list.size };
        while (dns_list_next(&rest, &entry)) {
            _cleanup_free_ char *id = mem_strndup(entry.container_id.data, entry.container_id.size);
            if (!is_on(engine, networks.items[i], id))
                names_leave(engine, networks.items[i], id, NULL);
        }
    }
}
