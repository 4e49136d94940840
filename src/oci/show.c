// state, list, ps.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/num.h"
#include "base/process.h"
#include "base/slice.h"
#include "oci/oci_private.h"

static json_t *describe(struct container *container, const char *owner)
{
    char created[CLOCK_TEXT_SIZE];
    enum status status = container_status(container);
    json_t *out = json_object(), *annotations = json_object();
    clock_format(container->created_ns, created);
    json_object_set_new(out, "ociVersion", json_new_text(container->version));
    json_object_set_new(out, "id", json_new_text(container->id));
    json_object_set_new(out, "pid", json_integer(status == STATUS_STOPPED ? 0 : container->pid));
    json_object_set_new(out, "status", json_string(status_name(status)));
    json_object_set_new(out, "bundle", json_new_text(container->bundle));
    json_object_set_new(out, "rootfs", json_new_text(container->rootfs));
    json_object_set_new(out, "created", json_string(created));
    for (size_t i = 0; i < container->config.annotations.len; i++)
        json_object_set_new(annotations, container->config.annotations.items[i].key,
                            json_new_text(container->config.annotations.items[i].value));
    if (json_object_size(annotations))
        json_object_set(out, "annotations", annotations);
    json_decref(annotations);
    json_object_set_new(out, "owner", json_new_text(owner));
    return out;
}

int verb_state(struct call *call, struct err *err)
{
    struct container container;
    int result = container_load(call, call->args.words.items[0], &container, err);
    // Until it has a process nobody but its maker knows of it, as with runc.
    if (result == 0 && container_status(&container) == STATUS_CREATING)
        result = err_set(err, ERR_NOT_FOUND, "container does not exist");
    if (result == 0) {
        container_load_config(&container, NULL); // for the annotations
        json_t *state = describe(&container, "");
        json_dumpf(state, stdout, JSON_INDENT(2));
        json_decref(state);
    }
    container_done(&container);
    return result;
}

// ---- list -----------------------------------------------------------------------------------------------------------

// No NSS in a static program: the file itself.
static void owner_name(uid_t uid, char *out, size_t size)
{
    struct buf text = BUF_INIT(1 << 20);
    struct slice rest, line;
    snprintf(out, size, "#%u", uid);
    if (file_read_at(AT_FDCWD, "/etc/passwd", &text, NULL) == 0) {
        rest = slice_of(buf_text(&text));
        while (slice_cut(&rest, '\n', &line)) {
            struct slice name, skipped, number;
            uint64_t value;
            if (slice_cut(&line, ':', &name) && slice_cut(&line, ':', &skipped) && slice_cut(&line, ':', &number) &&
                num_parse_u64(number, UINT32_MAX, &value) && value == uid) {
                snprintf(out, size, "%.*s", (int)name.size, name.data);
                break;
            }
        }
    }
    buf_done(&text);
}

static void add_container(struct call *call, int root, const char *id, json_t *list)
{
    struct container container;
    struct err err = { 0 };
    struct stat st;
    char owner[64];
    if (!id || fstatat(root, id, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
        return;
    if (container_load(call, id, &container, &err) < 0) {
        fprintf(stderr, "load container %s: %s\n", id, err.message);
    } else {
        container_load_config(&container, NULL);
        owner_name(st.st_uid, owner, sizeof(owner));
        json_array_append_new(list, describe(&container, owner));
    }
    container_done(&container);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int collect(struct call *call, json_t *list, struct err *err)
{
    struct dirent **entries;
    _cleanup_close_ int root = file_open_dir(AT_FDCWD, call->root, err);
    if (root < 0)
        return -1;
    int len = scandirat(root, ".", &entries, NULL, by_name);
    if (len < 0)
        return err_errno(err, errno, "%s", call->root);
    for (int i = 0; i < len; i++) {
        if (!str_eq(entries[i]->d_name, ".") && !str_eq(entries[i]->d_name, ".."))
            add_container(call, root, entries[i]->d_name, list);
        free(entries[i]);
    }
    free(entries);
    return 0;
}

#define COLUMNS 6
static const char *const titles[COLUMNS] = { "ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER" };

static void cell(const json_t *item, int column, char *out, size_t size)
{
    static const char *const keys[COLUMNS] = { "id", "pid", "status", "bundle", "created", "owner" };
    out[0] = '\0';
    if (!item)
        snprintf(out, size, "%s", titles[column]);
    else if (column == 1)
        snprintf(out, size, "%lld", (long long)json_get_int(item, keys[column], 0));
    else
        snprintf(out, size, "%s", json_get_text(item, keys[column], ""));
}

// As Go's tabwriter with minimal width 12 and padding 3: a column is as wide as its widest cell, the last is not padded.
static void print_table(const json_t *list)
{
    char text[4200];
    size_t widths[COLUMNS] = { 0 }, len = json_array_size(list);
    for (size_t row = 0; row <= len; row++) {
        for (int column = 0; column < COLUMNS; column++) {
            cell(row ? json_array_get(list, row - 1) : NULL, column, text, sizeof(text));
            widths[column] = MAX_OF(widths[column], MAX_OF(strlen(text) + 3, (size_t)12));
        }
    }
    for (size_t row = 0; row <= len; row++) {
        for (int column = 0; column < COLUMNS; column++) {
            cell(row ? json_array_get(list, row - 1) : NULL, column, text, sizeof(text));
            printf("%-*s", column == COLUMNS - 1 ? 0 : (int)widths[column], text);
        }
        putchar('\n');
    }
}

int verb_list(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *list = json_array();
    const char *format = args_text(&call->args, "format");
    if (collect(call, list, err) < 0)
        return -1;
    if (args_flag(&call->args, "quiet")) {
        for (size_t i = 0; i < json_array_size(list); i++)
            printf("%s\n", json_get_text(json_array_get(list, i), "id", ""));
    } else if (str_eq(format, "json")) {
        json_dumpf(json_array_size(list) ? list : json_null(), stdout, JSON_COMPACT | JSON_ENCODE_ANY);
        putchar('\n');
    } else if (str_empty(format) || str_eq(format, "table")) {
        print_table(list);
    } else {
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid format option");
    }
    return 0;
}

// ---- ps -------------------------------------------------------------------------------------------------------------

static int pid_column(struct slice title)
{
    struct slice word;
    int index = 0;
    while (slice_cut(&title, ' ', &word)) {
        if (word.size == 0)
            continue;
        if (slice_eq(word, "PID"))
            return index;
        index++;
    }
    return -1;
}

static bool line_is_of(struct slice line, int column, const pid_t *pids, size_t len)
{
    struct slice word;
    uint64_t pid;
    for (int index = 0; slice_cut(&line, ' ', &word);) {
        if (word.size == 0 || index++ < column)
            continue;
        for (size_t i = 0; num_parse_u64(word, INT32_MAX, &pid) && i < len; i++)
            if ((uint64_t)pids[i] == pid)
                return true;
        return false;
    }
    return false;
}

static int print_ps(struct call *call, const pid_t *pids, size_t len, struct err *err)
{
    static char all[] = "-ef", name[] = "ps";
    const struct strv *words = &call->args.words;
    struct buf output = BUF_INIT(16 << 20);
    char **argv = arena_alloc(&call->arena, (words->len + 3) * sizeof(char *));
    argv[0] = name;
    if (words->len == 1)
        argv[1] = all;
    for (size_t i = 1; i < words->len; i++)
        argv[i] = words->items[i];
    int result = process_run(argv, NULL, &output, err);
    struct slice rest = slice_of(buf_text(&output)), line;
    if (result == 0 && slice_cut(&rest, '\n', &line)) {
        int column = pid_column(line);
        if (column < 0)
            result = err_set(err, ERR_INTERNAL, "couldn't find PID field in ps output");
        else
            printf("%.*s\n", (int)line.size, line.data);
        while (column >= 0 && slice_cut(&rest, '\n', &line))
            if (line_is_of(line, column, pids, len))
                printf("%.*s\n", (int)line.size, line.data);
    }
    buf_done(&output);
    return result;
}

static int pids_of(struct container *container, pid_t **pids, size_t *len, struct err *err)
{
    struct cgroup *cgroup = NULL;
    if (container_cgroup(container, &cgroup, err) < 0)
        return -1;
    if (!cgroup)
        return err_set(err, ERR_NOT_IMPLEMENTED, "the container has no cgroup");
    int result = cgroup_pids(cgroup, pids, len, err);
    cgroup_free(cgroup);
    return result;
}

int verb_ps(struct call *call, struct err *err)
{
    struct container container;
    const char *format = args_text(&call->args, "format");
    _cleanup_free_ pid_t *pids = NULL;
    size_t len = 0;
    int result = container_load(call, call->args.words.items[0], &container, err);
    if (result == 0)
        result = pids_of(&container, &pids, &len, err);
    container_done(&container);
    if (result < 0)
        return -1;
    if (str_empty(format) || str_eq(format, "table"))
        return print_ps(call, pids, len, err);
    if (!str_eq(format, "json"))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid format option");
    for (size_t i = 0; i < len; i++)
        printf("%s%d", i ? "," : "[", (int)pids[i]);
    printf("%s]\n", len ? "" : "[");
    return 0;
}
