// A client's tar as a list, and the tar itself in a file, for whoever needs what is in it.
#include <fcntl.h>
#include <gnutls/crypto.h>

#include "frames.h"
#include "place.h"
#include "worker/worker.h"

struct reading {
    struct arena *arena;
    struct listing_entry *items;
    size_t len, capacity;
    struct step_wanted *wanted, *current; // current NULL: this one is not wanted
    size_t wanted_len;
    gnutls_hash_hd_t hash;
    bool unknown; // a list can't say what there is
    bool marked;
};

static struct step_wanted *find_wanted(const struct reading *reading, const struct listing_entry *entry)
{
    for (size_t i = 0; i < reading->wanted_len; i++)
        if (entry->type == LISTING_FILE && entry->size <= (int64_t)reading->wanted[i].text.ceiling && str_eq(reading->wanted[i].path, entry->path))
            return &reading->wanted[i];
    return NULL;
}

static void begin_entry(void *of, struct slice record, bool file)
{
    struct reading *reading = of;
    struct listing_entry entry;
    reading->current = NULL;
    reading->unknown = reading->unknown || reading->len == LISTING_LEN_MAX || !listing_take(&record, &entry) || !entry.type;
    if (reading->unknown)
        return;
    if (reading->len == reading->capacity) {
        reading->capacity = MAX_OF(2 * reading->capacity, (size_t)256);
        reading->items = mem_grow(reading->items, reading->capacity * sizeof(*reading->items));
    }
    entry.path = arena_strdup(reading->arena, entry.path);
    entry.link = arena_strdup(reading->arena, entry.link);
    reading->items[reading->len++] = entry;
    reading->current = find_wanted(reading, &entry);
    if (reading->current) {
        reading->current->found = true;
        buf_clear(&reading->current->text);
    }
}

static void add_content(void *of, const char *data, size_t size)
{
    struct reading *reading = of;
    if (!reading->unknown)
        gnutls_hash(reading->hash, data, size);
    if (reading->current)
        buf_add(&reading->current->text, data, size);
}

static void end_entry(void *of, bool file)
{
    struct reading *reading = of;
    if (file && !reading->unknown)
        gnutls_hash_output(reading->hash, reading->items[reading->len - 1].digest);
}

static int start(struct filer *filer, int input_fd, int spool_fd, struct err *err)
{
    int ends[2];
    _cleanup_close_ int empty = tree_of_image(filer->engine, NULL, err);
    if (empty < 0 || fd_pipe(ends, err) < 0)
        return -1;
    filer->data_fd = ends[0];
    _cleanup_close_ int write_end = ends[1];
    fcntl(write_end, F_SETPIPE_SZ, 1 << 20);
    const int sources[] = { spool_fd, write_end };
    const struct filer_wish wish = { .verb = "list", .root_fd = empty, .data_fd = input_fd, .source_fds = sources, .source_len = ARRAY_LEN(sources) };
    return filer_start(filer, &wish, err);
}

static int end_list(struct reading *reading, struct filer *filer, const struct cancel *cancel, struct err *err)
{
    int more;
    json_t *line;
    while ((more = filer_next(filer, cancel, &line, err)) > 0) {
        reading->marked = reading->marked || json_get_flag(line, "marked", false);
        json_decref(line);
    }
    return more;
}

static int read_all(struct reading *reading, struct engine *engine, int input_fd, int spool_fd, const struct cancel *cancel, struct err *err)
{
    struct frames frames = { .record = BUF_INIT(FRAMES_RECORD_MAX), .begin = begin_entry, .content = add_content, .end = end_entry, .of = reading };
    _cleanup_(filer_done) struct filer filer = FILER_ALONE(engine);
    _cleanup_(inflate_done) struct inflate inflate = INFLATE_INIT(engine);
    bool begun = lseek(spool_fd, 0, SEEK_END) > 0;
    if ((!begun && inflate_start(&inflate, input_fd, cancel, err) < 0) || start(&filer, inflate.fd >= 0 ? inflate.fd : input_fd, spool_fd, err) < 0)
        return -1;
    int done = pipe_relay(filer.data_fd, frames_take, &frames, cancel, err);
    buf_done(&frames.record);
    done = done < 0 ? -1 : end_list(reading, &filer, cancel, err);
    reading->marked = reading->marked && inflate.fd < 0;
    return done;
}

int tar_list(struct engine *engine, int input_fd, int spool_fd, struct step_wanted *wanted, size_t wanted_len, struct arena *arena, struct listing_entry **entries,
             size_t *len, bool *marked, const struct cancel *cancel, struct err *err)
{
    struct reading reading = { .arena = arena, .wanted = wanted, .wanted_len = wanted_len };
    if (gnutls_hash_init(&reading.hash, GNUTLS_DIG_SHA256) < 0)
        return err_set(err, ERR_INTERNAL, "no SHA-256");
    int done = read_all(&reading, engine, input_fd, spool_fd, cancel, err);
    gnutls_hash_deinit(reading.hash, NULL);
    lseek(spool_fd, 0, SEEK_SET);
    if (done < 0 || reading.unknown) {
        free(reading.items);
        return done < 0 ? -1 : 0;
    }
    listing_sort(reading.items, reading.len);
    *entries = reading.items;
    *len = reading.len;
    *marked = reading.marked;
    return 1;
}
