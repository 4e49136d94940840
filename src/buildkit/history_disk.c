// The builds that were, on disk: a file for each in a folder of the data root, so that a daemon that starts knows them. Only their records are in memory
// then; the progress of one is read when it is asked for.
//
//     "berth-build-1\n", u32 size of the record, the record (a history event), the progress: the rest
//
// A file that can't be read is taken away: it says nothing of value. What is pinned is so by its name.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/file.h"
#include "base/num.h"
#include "buildkit_private.h"

#define MAGIC "berth-build-1\n"
#define HEAD_SIZE (sizeof(MAGIC) - 1 + 4)
#define RECORD_MAX ((size_t)16 << 20)
#define PINNED ".pinned"
#define FILES_MAX 10000

static void name_of(const struct solve *solve, bool pinned, char out[64])
{
    snprintf(out, 64, "%s%s", solve->file, pinned ? PINNED : "");
}

// ---- writing --------------------------------------------------------------------------------------------------------

static int encode(struct solve *solve, struct buf *out, struct err *err)
{
    _cleanup_buf_ struct buf record = BUF_INIT(RECORD_MAX);
    mutex_lock(&solve->buildkit->lock);
    history_encode(solve, &record);
    uint32_t size = (uint32_t)record.size;
    buf_adds(out, MAGIC);
    buf_add(out, &size, sizeof(size));
    buf_add(out, buf_text(&record), record.size);
    buf_add(out, buf_text(&solve->events), solve->events.size);
    mutex_unlock(&solve->buildkit->lock);
    return buf_check(&record, "record", err) < 0 ? -1 : buf_check(out, "build", err);
}

// What can't be written is known as long as the daemon lives.
void history_keep(struct solve *solve)
{
    struct buildkit *buildkit = solve->buildkit;
    _cleanup_buf_ struct buf text = BUF_INIT(EVENTS_MAX + RECORD_MAX + HEAD_SIZE);
    char file[33];
    struct err ignored = { 0 };
    if (buildkit->history_fd < 0 || solve->internal || encode(solve, &text, &ignored) < 0)
        return;
    random_hex(file, 32);
    if (file_write_at(buildkit->history_fd, file, buf_text(&text), text.size, 0600, false, &ignored) < 0)
        return;
    mutex_lock(&buildkit->lock);
    memcpy(solve->file, file, sizeof(file));
    if (solve->pinned) {
        solve->pinned = false;
        history_pin(solve, true);
    }
    mutex_unlock(&buildkit->lock);
}

void history_pin(struct solve *solve, bool pinned)
{
    char before[64], after[64];
    name_of(solve, solve->pinned, before);
    name_of(solve, pinned, after);
    if (*solve->file && pinned != solve->pinned)
        renameat(solve->buildkit->history_fd, before, solve->buildkit->history_fd, after);
    solve->pinned = pinned;
}

void history_unlink(const struct solve *solve)
{
    char name[64];
    name_of(solve, solve->pinned, name);
    if (*solve->file)
        unlinkat(solve->buildkit->history_fd, name, 0);
}

// ---- reading --------------------------------------------------------------------------------------------------------

static bool read_head(int fd, uint32_t *size)
{
    char head[HEAD_SIZE];
    if (pread(fd, head, HEAD_SIZE, 0) != (ssize_t)HEAD_SIZE || memcmp(head, MAGIC, sizeof(MAGIC) - 1) != 0)
        return false;
    memcpy(size, head + sizeof(MAGIC) - 1, sizeof(*size));
    return *size <= RECORD_MAX;
}

// Its record; false: it is none.
static bool read_record(struct buildkit *buildkit, const char *name, struct solve *solve)
{
    _cleanup_close_ int fd = openat(buildkit->history_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct history_event event;
    struct stat info;
    uint32_t size;
    if (fd < 0 || fstat(fd, &info) < 0 || !S_ISREG(info.st_mode) || !read_head(fd, &size) || info.st_size < (off_t)(HEAD_SIZE + size))
        return false;
    char *text = arena_alloc(&solve->arena, size + 1);
    if (pread(fd, text, size, HEAD_SIZE) != (ssize_t)size ||
        proto_decode((struct slice){ text, size }, &history_event_table, &solve->arena, &event, NULL) < 0 || !event.record || str_empty(event.record->ref))
        return false;
    history_restore(solve, event.record);
    solve->kept_at = (int64_t)HEAD_SIZE + size;
    solve->kept_size = (size_t)(info.st_size - solve->kept_at);
    return true;
}

static struct solve *read_solve(struct buildkit *buildkit, const char *name)
{
    struct solve *solve = mem_new(struct solve);
    const char *dot = strchr(name, '.');
    size_t size = dot ? (size_t)(dot - name) : strlen(name);
    bool good = size == sizeof(solve->file) - 1 && (!dot || str_eq(dot, PINNED));
    solve->buildkit = buildkit;
    solve->events = (struct buf)BUF_INIT(EVENTS_MAX);
    if (good && read_record(buildkit, name, solve)) {
        memcpy(solve->file, name, size);
        solve->pinned = dot;
        return solve;
    }
    solve_free(solve);
    unlinkat(buildkit->history_fd, name, 0);
    return NULL;
}

// The newest stands first.
static void insert(struct buildkit *buildkit, struct solve *solve)
{
    struct solve **at = &buildkit->solves;
    while (*at && (*at)->began_ns > solve->began_ns)
        at = &(*at)->next;
    solve->next = *at;
    *at = solve;
}

int history_open(struct buildkit *buildkit, const char *folder, struct err *err)
{
    _cleanup_strv_ struct strv names = { 0 };
    buildkit->history_fd = -1;
    if (!folder)
        return 0;
    if (file_mkdirs(AT_FDCWD, folder, 0700, err) < 0 || (buildkit->history_fd = file_open_dir(AT_FDCWD, folder, err)) < 0 ||
        file_list_names(buildkit->history_fd, ".", &names, err) < 0)
        return -1;
    mutex_lock(&buildkit->lock);
    for (size_t i = 0; i < names.len && i < FILES_MAX; i++) {
        struct solve *solve = read_solve(buildkit, names.items[i]);
        if (solve)
            insert(buildkit, solve);
    }
    for (struct solve *solve = buildkit->solves; solve; solve = solve->next) // a change is the newer the higher its number
        buildkit->generation++;
    int64_t generation = buildkit->generation;
    for (struct solve *solve = buildkit->solves; solve; solve = solve->next)
        solve->generation = generation--;
    solves_forget(buildkit);
    mutex_unlock(&buildkit->lock);
    return 0;
}

void history_load_events(struct solve *solve)
{
    struct buildkit *buildkit = solve->buildkit;
    char name[64];
    if (solve->kept_size == 0 || solve->events.size > 0)
        return;
    name_of(solve, solve->pinned, name);
    _cleanup_close_ int fd = openat(buildkit->history_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    char *room = fd < 0 ? NULL : buf_reserve(&solve->events, solve->kept_size);
    ssize_t got = room ? pread(fd, room, solve->kept_size, solve->kept_at) : -1;
    if (got > 0)
        buf_commit(&solve->events, (size_t)got);
}
