// system df, and everything that prunes.
#include "client/rows.h"
#include "client/text.h"
#include "base/clock.h"
#include "base/num.h"

// ---- df -------------------------------------------------------------------------------------------------------------

struct sum {
    int64_t count, active, size, reclaimable;
};

// Small enough to be added up, whatever a daemon says.
static int64_t bytes_of(const json_t *object, const char *key, int64_t otherwise)
{
    return MAX_OF(MIN_OF(json_get_int(object, key, otherwise), INT64_C(1) << 50), INT64_C(-1));
}

static struct sum sum_images(const json_t *usage)
{
    const json_t *list = json_object_get(usage, "Images");
    struct sum sum = { .count = (int64_t)json_array_size(list), .size = bytes_of(usage, "LayersSize", 0) };
    int64_t used = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *image = json_array_get(list, i);
        int64_t size = bytes_of(image, "Size", -1), shared = bytes_of(image, "SharedSize", -1), containers = json_get_int(image, "Containers", 0);
        sum.active += containers > 0;
        if (containers != 0 && size != -1 && shared != -1)
            used += size - shared;
    }
    sum.reclaimable = sum.size - used;
    return sum;
}

static struct sum sum_containers(const json_t *usage)
{
    const json_t *list = json_object_get(usage, "Containers");
    struct sum sum = { .count = (int64_t)json_array_size(list) };
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        const char *state = json_get_text(one, "State", "");
        bool active = str_eq(state, "running") || str_eq(state, "paused") || str_eq(state, "restarting");
        int64_t size = bytes_of(one, "SizeRw", 0);
        sum.active += active;
        sum.size += size;
        sum.reclaimable += active ? 0 : size;
    }
    return sum;
}

static struct sum sum_volumes(const json_t *usage)
{
    const json_t *list = json_object_get(usage, "Volumes");
    struct sum sum = { .count = (int64_t)json_array_size(list) };
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *data = json_object_get(json_array_get(list, i), "UsageData");
        int64_t size = bytes_of(data, "Size", -1), references = json_get_int(data, "RefCount", -1);
        sum.active += references > 0;
        sum.size += size != -1 ? size : 0;
        sum.reclaimable += size != -1 && references == 0 ? size : 0;
    }
    return sum;
}

static struct sum sum_cache(const json_t *usage)
{
    const json_t *list = json_object_get(usage, "BuildCache");
    struct sum sum = { .count = (int64_t)json_array_size(list), .size = bytes_of(usage, "BuilderSize", 0) };
    int64_t used = 0, all = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        bool in_use = json_get_flag(one, "InUse", false), shared = json_get_flag(one, "Shared", false);
        sum.active += in_use;
        used += in_use && !shared ? bytes_of(one, "Size", 0) : 0;
        all += shared ? 0 : bytes_of(one, "Size", 0);
    }
    sum.size = MAX_OF(sum.size, all);
    sum.reclaimable = sum.size - used;
    return sum;
}

static json_t *sum_row(const char *type, struct sum sum, bool percent)
{
    json_t *row = json_object();
    char size[TEXT_SIZE];
    row_put(row, "Type", type);
    row_putf(row, "TotalCount", "%lld", (long long)sum.count);
    row_putf(row, "Active", "%lld", (long long)sum.active);
    row_put(row, "Size", text_size((double)sum.size, 4, size));
    text_size((double)sum.reclaimable, 4, size);
    if (percent && sum.size > 0)
        row_putf(row, "Reclaimable", "%s (%lld%%)", size, (long long)(100.0 * (double)sum.reclaimable / (double)sum.size));
    else
        row_put(row, "Reclaimable", size);
    return row;
}

static int print_sums(struct call *call, const json_t *usage, struct err *err)
{
    static const struct column columns[] = { { "Type", "TYPE" }, { "TotalCount", "TOTAL" }, { "Active", "ACTIVE" }, { "Size", "SIZE" },
                                             { "Reclaimable", "RECLAIMABLE" } };
    struct list list = { .format = flag_text(&call->flags, "format"),
                         .table = "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}", .columns = columns,
                         .columns_len = ARRAY_LEN(columns), .type = "*formatter.diskUsageImagesContext",
                         .raw = "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n" };
    struct row rows[] = { { sum_row("Images", sum_images(usage), true), NULL },
                          { sum_row("Containers", sum_containers(usage), true), NULL },
                          { sum_row("Local Volumes", sum_volumes(usage), true), NULL },
                          { sum_row("Build Cache", sum_cache(usage), false), NULL } };
    int result = list_print(&list, rows, ARRAY_LEN(rows), err);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        json_decref(rows[i].fields);
    return result;
}

static json_t *used_image_row(const json_t *image, bool no_trunc)
{
    const char *name = item_text(json_object_get(image, "RepoTags"), 0);
    const char *slash = strrchr(name, '/'), *colon = strrchr(slash ? slash : name, ':');
    _cleanup_free_ char *repository = colon ? mem_strndup(name, (size_t)(colon - name)) : mem_strdup("<none>");
    return image_row(image, repository, colon ? colon + 1 : "<none>", "<none>", no_trunc);
}

static json_t *used_container_row(const json_t *container, bool no_trunc)
{
    json_t *copy _cleanup_json_ = json_copy((json_t *)container);
    json_object_del(copy, "SizeRootFs"); // the virtual size is not shown
    return container_row(copy, no_trunc);
}

static json_t *cache_row(const json_t *record, bool no_trunc)
{
    json_t *row = json_object();
    char id[TEXT_SIZE], size[TEXT_SIZE];
    int64_t created = 0, used = 0;
    row_put(row, "ID", text_id(json_get_text(record, "ID", ""), no_trunc, id));
    row_put(row, "CacheType", json_get_text(record, "Type", ""));
    row_put(row, "Size", text_size((double)json_get_int(record, "Size", 0), 4, size));
    row_put(row, "CreatedSince", "");
    row_put(row, "LastUsedSince", "");
    if (clock_parse(slice_of(json_get_text(record, "CreatedAt", "")), &created))
        put_age(row, "CreatedSince", created / NS_PER_S);
    if (clock_parse(slice_of(json_get_text(record, "LastUsedAt", "")), &used))
        put_age(row, "LastUsedSince", used / NS_PER_S);
    row_putf(row, "UsageCount", "%lld", (long long)json_get_int(record, "UsageCount", 0));
    row_put(row, "Shared", json_get_flag(record, "Shared", false) ? "true" : "false");
    return row;
}

static int print_verbose(const json_t *usage, struct err *err)
{
    static const struct column cache_columns[] = { { "ID", "CACHE ID" }, { "CacheType", "CACHE TYPE" }, { "Size", "SIZE" }, { "CreatedSince", "CREATED" },
                                                   { "LastUsedSince", "LAST USED" }, { "UsageCount", "USAGE" }, { "Shared", "SHARED" } };
    char size[TEXT_SIZE];
    struct list images = { .table = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
                           .columns = image_columns, .columns_len = image_columns_len };
    struct list containers = { .table = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
                               .columns = container_columns, .columns_len = container_columns_len };
    struct list volumes = { .table = "table {{.Name}}\t{{.Links}}\t{{.Size}}", .columns = volume_columns, .columns_len = volume_columns_len };
    struct list cache = { .table = "table {{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
                          .columns = cache_columns, .columns_len = ARRAY_LEN(cache_columns) };
    puts("Images space usage:\n");
    if (print_rows(&images, json_object_get(usage, "Images"), used_image_row, false, err) < 0)
        return -1;
    puts("\nContainers space usage:\n");
    if (print_rows(&containers, json_object_get(usage, "Containers"), used_container_row, false, err) < 0)
        return -1;
    puts("\nLocal Volumes space usage:\n");
    if (print_rows(&volumes, json_object_get(usage, "Volumes"), volume_row, false, err) < 0)
        return -1;
    printf("\nBuild cache usage: %s\n\n", text_size((double)sum_cache(usage).size, 4, size));
    return print_rows(&cache, json_object_get(usage, "BuildCache"), cache_row, false, err);
}

int command_df(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *usage = NULL;
    bool verbose = flag_on(&call->flags, "verbose"), formatted = !str_empty(flag_text(&call->flags, "format"));
    if (api_json(call->client, "GET", "/system/df", NULL, &usage, err) < 0)
        return -1;
    if (verbose && formatted)
        return format_object("", flag_text(&call->flags, "format"), usage, NULL, err);
    return verbose ? print_verbose(usage, err) : print_sums(call, usage, err);
}

// ---- prune ----------------------------------------------------------------------------------------------------------

struct pruned {
    const char *path, *list, *head; // the answer's list, and the line above it
    bool dangling; // images: filter by whether all are meant
};

static const struct pruned containers_pruned = { "/containers/prune", "ContainersDeleted", "Deleted Containers:", false };
static const struct pruned networks_pruned = { "/networks/prune", "NetworksDeleted", "Deleted Networks:", false };
static const struct pruned volumes_pruned = { "/volumes/prune", "VolumesDeleted", "Deleted Volumes:", false };
static const struct pruned images_pruned = { "/images/prune", "ImagesDeleted", "Deleted Images:", true };
static const struct pruned cache_pruned = { "/build/prune", "CachesDeleted", "Deleted build cache objects:", false };

static void put_prune_query(struct call *call, const struct pruned *what, struct buf *path)
{
    _cleanup_json_ json_t *filters = flags_filters(&call->flags, "filter");
    bool all = flag_on(&call->flags, "all");
    if (what->dangling)
        json_object_set_new(filters, "dangling", json_pack("{s:b}", all ? "false" : "true", 1));
    else if (what == &volumes_pruned && all && str_starts(call->command->path, "volume"))
        json_object_set_new(filters, "all", json_pack("{s:b}", "true", 1));
    else if (what == &cache_pruned && all)
        query_add(path, "all", "1");
    if (what == &cache_pruned && flag_set(&call->flags, "keep-storage")) {
        char text[24];
        int64_t bytes = 0;
        num_parse_bytes(flag_text(&call->flags, "keep-storage"), &bytes);
        snprintf(text, sizeof(text), "%lld", (long long)bytes);
        query_add(path, "keep-storage", text);
    }
    if (json_object_size(filters)) {
        _cleanup_free_ char *text = json_text(filters);
        query_add(path, "filters", text);
    }
}

static int prune(struct call *call, const struct pruned *what, int64_t *reclaimed, struct err *err)
{
    _cleanup_json_ json_t *answer = NULL;
    _cleanup_buf_ struct buf path = PATH_INIT;
    size_t i;
    json_t *one;
    buf_adds(&path, what->path);
    put_prune_query(call, what, &path);
    if (api_json(call->client, "POST", buf_text(&path), NULL, &answer, err) < 0)
        return -1;
    json_t *list = json_object_get(answer, what->list);
    if (json_array_size(list))
        puts(what->head);
    json_array_foreach(list, i, one) {
        if (json_is_string(one))
            puts(json_string_value(one));
        else if (json_object_get(one, "Untagged"))
            printf("untagged: %s\n", json_get_text(one, "Untagged", ""));
        else
            printf("deleted: %s\n", json_get_text(one, "Deleted", ""));
    }
    if (json_array_size(list))
        puts("");
    *reclaimed += json_get_int(answer, "SpaceReclaimed", 0);
    return 0;
}

static void print_reclaimed(const char *label, int64_t bytes)
{
    char size[TEXT_SIZE];
    printf("%s %s\n", label, text_size((double)bytes, 4, size));
}

static int prune_one(struct call *call, const struct pruned *what, const char *warning, struct err *err)
{
    int64_t reclaimed = 0;
    if (!confirm(call, warning))
        return 0;
    if (prune(call, what, &reclaimed, err) < 0)
        return -1;
    if (what == &cache_pruned)
        print_reclaimed("Total:\t", reclaimed);
    else if (what != &networks_pruned)
        print_reclaimed("Total reclaimed space:", reclaimed);
    return 0;
}

int command_container_prune(struct call *call, struct err *err)
{
    return prune_one(call, &containers_pruned, "This will remove all stopped containers.", err);
}

int command_network_prune(struct call *call, struct err *err)
{
    return prune_one(call, &networks_pruned, "This will remove all custom networks not used by at least one container.", err);
}

int command_image_prune(struct call *call, struct err *err)
{
    return prune_one(call, &images_pruned, flag_on(&call->flags, "all") ? "This will remove all images without at least one container associated to them."
                                                                       : "This will remove all dangling images.", err);
}

int command_volume_prune(struct call *call, struct err *err)
{
    return prune_one(call, &volumes_pruned, flag_on(&call->flags, "all") ? "This will remove all local volumes not used by at least one container."
                                                                        : "This will remove anonymous local volumes not used by at least one container.", err);
}

int command_builder_prune(struct call *call, struct err *err)
{
    return prune_one(call, &cache_pruned, flag_on(&call->flags, "all") ? "This will remove all build cache."
                                                                      : "This will remove all dangling build cache.", err);
}

int command_system_prune(struct call *call, struct err *err)
{
    bool volumes = flag_on(&call->flags, "volumes"), all = flag_on(&call->flags, "all");
    _cleanup_free_ char *warning = mem_printf(
        "This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n%s  - all %s\n  - %s build cache\n",
        volumes ? "  - all anonymous volumes not used by at least one container\n" : "",
        all ? "images without at least one container associated to them" : "dangling images", all ? "all" : "unused");
    const struct pruned *const order[] = { &containers_pruned, &networks_pruned, volumes ? &volumes_pruned : NULL, &images_pruned, &cache_pruned };
    int64_t reclaimed = 0;
    if (!confirm(call, warning))
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(order); i++)
        if (order[i] && prune(call, order[i], &reclaimed, err) < 0)
            return -1;
    print_reclaimed("Total reclaimed space:", reclaimed);
    return 0;
}
