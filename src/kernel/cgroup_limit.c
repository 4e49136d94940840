// Limits, whatever the layout: they become a list of texts and files, which is written in two turns. In the first
// each text goes to its file; what the kernel finds wrong beside the values that are still there waits for the
// second. So nobody has to know which of two limits that bound each other must move first.
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/fd.h"
#include "cgroup_private.h"

void cgroup_changes_done(struct cgroup_changes *changes)
{
    arena_done(&changes->arena);
    free(changes->items);
}

void cgroup_change_add(struct cgroup_changes *changes, int dir_fd, const char *file, unsigned missing, const char *fmt,
                       ...)
{
    char text[4096];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (changes->len == changes->capacity) {
        changes->capacity = changes->capacity ? changes->capacity * 2 : 32;
        changes->items = mem_grow(changes->items, changes->capacity * sizeof(*changes->items));
    }
    changes->items[changes->len++] = (struct cgroup_change){ dir_fd, arena_strdup(&changes->arena, file),
                                                             arena_strdup(&changes->arena, text), missing };
}

void cgroup_change_add_row(struct cgroup_changes *changes, int dir_fd, const struct cgroup_limit_file *row,
                           const struct cgroup_limits *limits, unsigned *missing)
{
    const void *member = (const char *)limits + row->offset;
    const struct cgroup_number *optional = member;
    const int64_t *number = member;
    const char *const *word = member;
    const bool *flag = member;
    switch (row->kind) {
    case CGROUP_NUMBER:
    case CGROUP_NUMBER_MAX:
        if (*number < 0 && row->kind == CGROUP_NUMBER_MAX)
            cgroup_change_add(changes, dir_fd, row->file, row->missing, "max");
        else if (*number)
            cgroup_change_add(changes, dir_fd, row->file, row->missing, "%lld", (long long)*number);
        break;
    case CGROUP_SET_NUMBER:
        if (optional->set)
            cgroup_change_add(changes, dir_fd, row->file, row->missing, "%lld", (long long)optional->value);
        break;
    case CGROUP_WORD:
        if (!str_empty(*word))
            cgroup_change_add(changes, dir_fd, row->file, row->missing, "%s", *word);
        break;
    case CGROUP_FLAG:
        if (*flag)
            cgroup_change_add(changes, dir_fd, row->file, row->missing, "1");
        break;
    case CGROUP_UNSUPPORTED:
        *missing |= *number ? row->missing : 0;
        break;
    case CGROUP_SET_UNSUPPORTED:
        *missing |= optional->set ? row->missing : 0;
        break;
    }
}

void cgroup_change_add_huge_pages(struct cgroup_changes *changes, int dir_fd, const char *suffix,
                                  const struct cgroup_limits *limits)
{
    for (size_t i = 0; i < limits->huge_page_len; i++) {
        const struct cgroup_huge_pages *pages = &limits->huge_pages[i];
        char file[128];
        snprintf(file, sizeof(file), "hugetlb.%.60s.%s", pages->page_size, suffix);
        cgroup_change_add(changes, dir_fd, file, CGROUP_NO_HUGE_PAGES, "%llu", (unsigned long long)pages->limit);
        // Reservations count where the kernel counts them (5.7).
        snprintf(file, sizeof(file), "hugetlb.%.60s.rsvd.%s", pages->page_size, suffix);
        cgroup_change_add(changes, dir_fd, file, 0, "%llu", (unsigned long long)pages->limit);
    }
}

void cgroup_change_add_rdma(struct cgroup_changes *changes, int dir_fd, const struct cgroup_limits *limits)
{
    for (size_t i = 0; i < limits->rdma_len; i++) {
        const struct cgroup_rdma *rdma = &limits->rdma[i];
        char handles[48] = "", objects[48] = "";
        if (rdma->hca_handles.set)
            snprintf(handles, sizeof(handles), " hca_handle=%lld", (long long)rdma->hca_handles.value);
        if (rdma->hca_objects.set)
            snprintf(objects, sizeof(objects), " hca_object=%lld", (long long)rdma->hca_objects.value);
        cgroup_change_add(changes, dir_fd, "rdma.max", CGROUP_NO_RDMA, "%s%s%s", rdma->device, handles, objects);
    }
}

// ---- writing --------------------------------------------------------------------------------------------------------

enum outcome { WRITTEN, NOT_THERE, NOT_NOW, FAILED };

// The file that the change before went to: a list of devices goes to one.
struct last_file {
    int fd, dir_fd;
    const char *file;
    bool plain; // of a made-up tree, where each text replaces the one before
};

static int put_text(const struct cgroup_change *change, struct last_file *last, struct err *err)
{
    if (last->fd < 0 || last->plain || last->dir_fd != change->dir_fd || !str_eq(last->file, change->file)) {
        fd_close(last->fd);
        *last = (struct last_file){ cgroup_open_file(change->dir_fd, change->file, err), change->dir_fd, change->file, last->plain };
    }
    return last->fd < 0 ? -1 : cgroup_write(last->fd, change->file, change->text, err);
}

static enum outcome put(const struct cgroup_change *change, struct last_file *last, struct err *err)
{
    if (change->dir_fd < 0)
        return NOT_THERE;
    if (strchr(change->file, '/')) {
        err_set(err, ERR_INVALID_ARGUMENT, "cgroup file \"%.100s\" is not a name", change->file);
        return FAILED;
    }
    if (put_text(change, last, err) == 0)
        return WRITTEN;
    if ((err->number == ENOENT || err->number == EOPNOTSUPP) && change->missing != CGROUP_MUST)
        return NOT_THERE;
    return err->number == EINVAL || err->number == EBUSY ? NOT_NOW : FAILED;
}

// A limit below what is used: the kernel's word for it says little.
static int explain(const struct cgroup_change *change, struct err *err)
{
    if (err->number == EBUSY && str_eq(change->file, "memory.limit_in_bytes"))
        return err_set(err, ERR_CONFLICT, "unable to set memory limit to %s (current usage: %lld, peak usage: %lld)",
                       change->text, (long long)cgroup_number(change->dir_fd, "memory.usage_in_bytes", 0),
                       (long long)cgroup_number(change->dir_fd, "memory.max_usage_in_bytes", 0));
    return -1;
}

// Writes what is due and keeps what has to wait, in order, at the head of the list. Returns how many wait.
static int write_turn(struct cgroup_changes *changes, bool plain, bool last, unsigned *missing, struct err *err)
{
    size_t waiting = 0;
    struct last_file file = { .fd = -1, .plain = plain };
    int result = 0;
    for (size_t i = 0; i < changes->len && result == 0; i++) {
        struct cgroup_change change = changes->items[i];
        struct err failed = { 0 };
        enum outcome outcome = put(&change, &file, &failed);
        if (outcome == NOT_THERE)
            *missing |= change.missing;
        if (outcome == NOT_NOW && !last)
            changes->items[waiting++] = change;
        if (outcome == FAILED || (outcome == NOT_NOW && last)) {
            explain(&change, &failed);
            if (err)
                *err = failed;
            result = -1;
        }
    }
    fd_close(file.fd);
    changes->len = waiting;
    return result;
}

int cgroup_limit(struct cgroup *cgroup, const struct cgroup_limits *limits, unsigned *missing, struct err *err)
{
    _cleanup_(cgroup_changes_done) struct cgroup_changes changes = { 0 };
    bool v2 = cgroup->layout.version == CGROUP_V2, plain = cgroup->layout.trusted;
    unsigned ignored = 0;
    missing = missing ? missing : &ignored;
    *missing = 0;
    if ((v2 ? cgroup_v2_changes : cgroup_v1_changes)(cgroup, limits, &changes, missing, err) < 0 ||
        write_turn(&changes, plain, false, missing, err) < 0 || write_turn(&changes, plain, true, missing, err) < 0)
        return -1;
    return v2 ? cgroup_v2_after(cgroup, limits, missing, err) : cgroup_v1_after(cgroup, limits, err);
}

const char *cgroup_missing_name(unsigned bit)
{
    static const char *const names[] = { "memory",        "swap",       "cpu quota",      "cpu shares",
                                         "pids",          "cpuset",     "devices",        "memory reservation",
                                         "kernel memory", "swappiness", "oom control",    "realtime cpu",
                                         "cpu burst",     "cpu idle",   "io weight",      "io throttling",
                                         "huge pages",    "rdma",       "network classes" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (bit == 1U << i)
            return names[i];
    return "unknown";
}

// ---- from v1's numbers to v2's --------------------------------------------------------------------------------------

// Without the C library's mathematics, which static programs would carry for this alone: series that converge quickly
// where they are used (1 <= x < 2, 0 <= y < 1).
static double log_2(uint64_t number)
{
    int whole = 63 - __builtin_clzll(number);
    double x = (double)number / (double)(UINT64_C(1) << whole), z = (x - 1) / (x + 1), power = z, sum = 0;
    for (int i = 1; i < 60; i += 2, power *= z * z)
        sum += 2 * power / i;
    return whole + sum / 0.69314718055994530942;
}

static double power_of_10(double exponent)
{
    double y = exponent * 2.30258509299404568402, term = 1, sum = 1;
    for (int i = 1; i < 100; i++) {
        term *= y / i;
        sum += term;
    }
    return sum;
}

// A curve through (2, 1), (1024, 100) and (262144, 10000), as runc and systemd's users draw it.
uint64_t cgroup_weight_of_shares(uint64_t shares)
{
    if (shares == 0)
        return 0;
    if (shares <= 2)
        return 1;
    if (shares >= 262144)
        return 10000;
    double l = log_2(shares), weight = power_of_10((l * l + 125 * l) / 612.0 - 7.0 / 34.0);
    uint64_t floor = (uint64_t)weight;
    return weight - (double)floor > 1e-9 ? floor + 1 : floor;
}

uint64_t cgroup_weight_of_io(uint64_t weight)
{
    return weight == 0 ? 0 : 1 + (MAX_OF(weight, UINT64_C(10)) - 10) * 9999 / 990;
}

int cgroup_swap_alone(int64_t memory, int64_t memory_swap, int64_t *out, bool *none, struct err *err)
{
    *none = false;
    *out = memory_swap;
    if (memory == -1 && memory_swap == 0)
        *out = -1;
    if (memory_swap <= 0 || memory == -1)
        return 0;
    if (memory == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "unable to set swap limit without memory limit");
    if (memory < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid memory value: %lld", (long long)memory);
    if (memory_swap < memory)
        return err_set(err, ERR_INVALID_ARGUMENT, "memory+swap limit should be >= memory limit");
    *out = memory_swap - memory;
    *none = *out == 0;
    return 0;
}
