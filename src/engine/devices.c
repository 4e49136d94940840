#include "devices.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/sysmacros.h>

enum { DEVICES_MAX = 1024, DEPTH_MAX = 8 };

// ---- what may be said -----------------------------------------------------------------------------------------------

static bool is_access(const char *text)
{
    size_t size = strlen(text);
    return size > 0 && size <= 3 && strspn(text, "rwm") == size;
}

static bool parse_number(struct slice text, int64_t *out)
{
    uint64_t number = 0;
    if (!slice_eq(text, "*") && !num_parse_u64(text, UINT32_MAX, &number))
        return false;
    *out = slice_eq(text, "*") ? -1 : (int64_t)number;
    return true;
}

// "c 189:* rwm"
static int parse_rule(const char *text, struct arena *arena, struct oci_device_rule *out, struct err *err)
{
    struct slice rest = slice_of(text), type, major, minor;
    *out = (struct oci_device_rule){ .allow = true };
    slice_cut(&rest, ' ', &type);
    bool good = type.size == 1 && strchr("abc", type.data[0]) && rest.data && slice_cut(&rest, ':', &major) && rest.data &&
                slice_cut(&rest, ' ', &minor) && rest.data && is_access(rest.data) && parse_number(major, &out->major) &&
                parse_number(minor, &out->minor);
    if (!good)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid device cgroup rule format: '%.200s'", text);
    out->type = arena_strndup(arena, type.data, type.size);
    out->access = arena_strdup(arena, rest.data);
    return 0;
}

static int check_devices(const struct json_list *devices, struct err *err)
{
    for (size_t i = 0; i < devices->len; i++) {
        const struct device_mapping *device = json_list_at(devices, &device_mapping_table, i);
        if (str_empty(device->path_on_host) || device->path_on_host[0] != '/' ||
            (!str_empty(device->path_in_container) && device->path_in_container[0] != '/'))
            return err_set(err, ERR_INVALID_ARGUMENT, "HostConfig.Devices: device paths must be absolute: '%.200s'",
                           device->path_on_host ? device->path_on_host : "");
        if (!str_empty(device->cgroup_permissions) && !is_access(device->cgroup_permissions))
            return err_set(err, ERR_INVALID_ARGUMENT, "HostConfig.Devices: invalid device permissions '%.64s'", device->cgroup_permissions);
    }
    return 0;
}

static int check_rates(const struct json_list *rates, const char *path, struct err *err)
{
    for (size_t i = 0; i < rates->len; i++) {
        const struct device_rate *rate = json_list_at(rates, &device_rate_table, i);
        if (str_empty(rate->path) || rate->rate < 0)
            return err_set(err, ERR_INVALID_ARGUMENT, "%s: a device and a rate of 0 or more", path);
    }
    return 0;
}

static int check_weights(const struct json_list *weights, struct err *err)
{
    for (size_t i = 0; i < weights->len; i++) {
        const struct device_weight *weight = json_list_at(weights, &device_weight_table, i);
        if (str_empty(weight->path) || (weight->weight != 0 && (weight->weight < 10 || weight->weight > 1000)))
            return err_set(err, ERR_INVALID_ARGUMENT, "HostConfig.BlkioWeightDevice: a device and a weight of 10 to 1000");
    }
    return 0;
}

int devices_check(const struct host_config *host, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    for (size_t i = 0; i < host->device_cgroup_rules.len; i++) {
        struct oci_device_rule rule;
        if (parse_rule(host->device_cgroup_rules.items[i], &arena, &rule, err) < 0)
            return -1;
    }
    if (check_devices(&host->devices, err) < 0 || check_weights(&host->blkio_weights, err) < 0 ||
        check_rates(&host->blkio_read_bps, "HostConfig.BlkioDeviceReadBps", err) < 0 ||
        check_rates(&host->blkio_write_bps, "HostConfig.BlkioDeviceWriteBps", err) < 0 ||
        check_rates(&host->blkio_read_iops, "HostConfig.BlkioDeviceReadIOps", err) < 0)
        return -1;
    return check_rates(&host->blkio_write_iops, "HostConfig.BlkioDeviceWriteIOps", err);
}

// ---- nodes ----------------------------------------------------------------------------------------------------------

struct filling {
    struct arena *arena;
    struct oci_device_rule *rules; // those that were there, and ours
    size_t rule_len;
    const char *access;
    struct oci_device *devices;
    size_t len; // of them
};

static void add_node(struct filling *filling, const char *path, const struct stat *info)
{
    struct oci_device *device = &filling->devices[filling->len++];
    char *type = (char *)(S_ISBLK(info->st_mode) ? "b" : "c");
    *device = (struct oci_device){ arena_strdup(filling->arena, path), type, major(info->st_rdev), minor(info->st_rdev),
                                   info->st_mode & 07777, info->st_uid, info->st_gid };
    filling->rules[filling->rule_len++] = (struct oci_device_rule){ true, type, device->major, device->minor, (char *)filling->access };
}

static int walk(struct filling *filling, int folder_fd, const char *path, int depth, struct err *err);

// What is neither a device nor a folder is passed over.
static int add_below(struct filling *filling, int folder_fd, const char *name, const char *path, int depth, struct err *err)
{
    struct stat info;
    if (fstatat(folder_fd, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    if (filling->len == DEVICES_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d devices", DEVICES_MAX);
    if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode))
        add_node(filling, path, &info);
    if (!S_ISDIR(info.st_mode) || depth == DEPTH_MAX)
        return 0;
    _cleanup_close_ int fd = openat(folder_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? 0 : walk(filling, fd, path, depth + 1, err);
}

static int walk(struct filling *filling, int folder_fd, const char *path, int depth, struct err *err)
{
    static const char *const left_out[] = { "pts", "shm", "fd", "mqueue", "console" }; // each container has its own
    _cleanup_strv_ struct strv names = { 0 };
    if (file_list_names(folder_fd, ".", &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++) {
        bool own = false;
        for (size_t k = 0; k < ARRAY_LEN(left_out); k++)
            own = own || str_eq(names.items[i], left_out[k]);
        _cleanup_free_ char *child = mem_printf("%s/%s", path, names.items[i]);
        if (!own && add_below(filling, folder_fd, names.items[i], child, depth, err) < 0)
            return -1;
    }
    return 0;
}

static int add_device(struct filling *filling, const struct device_mapping *device, struct err *err)
{
    struct stat info;
    const char *path = str_empty(device->path_in_container) ? device->path_on_host : device->path_in_container;
    filling->access = str_empty(device->cgroup_permissions) ? "rwm" : device->cgroup_permissions;
    _cleanup_close_ int fd = open(device->path_on_host, O_PATH | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) < 0)
        return err_errno(err, errno, "error gathering device information while adding custom device \"%s\"", device->path_on_host);
    size_t before = filling->len;
    if (before == DEVICES_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d devices", DEVICES_MAX);
    if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode)) {
        add_node(filling, path, &info);
    } else if (S_ISDIR(info.st_mode)) {
        _cleanup_close_ int folder = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder < 0 || walk(filling, folder, path, 0, err) < 0)
            return -1;
    }
    if (filling->len == before)
        return err_set(err, ERR_INVALID_ARGUMENT, "error gathering device information while adding custom device \"%s\": not a device node",
                       device->path_on_host);
    return 0;
}

static int add_wish(struct filling *filling, const struct device_wish *wish, struct err *err)
{
    size_t before = filling->len;
    if (add_device(filling, &wish->mapping, err) < 0)
        return -1;
    for (size_t i = before; i < filling->len; i++) {
        struct oci_device *device = &filling->devices[i];
        device->file_mode = wish->mode < 0 ? device->file_mode : wish->mode & 07777;
        device->uid = wish->uid < 0 ? device->uid : wish->uid;
        device->gid = wish->gid < 0 ? device->gid : wish->gid;
    }
    return 0;
}

int devices_fill(const struct host_config *host, const struct device_wish *more, size_t more_len, struct arena *arena, struct oci_linux *out,
                 struct err *err)
{
    const struct json_list *before = &out->resources.devices;
    if (host->devices.len == 0 && host->device_cgroup_rules.len == 0 && more_len == 0)
        return 0;
    if (host->devices.len > DEVICES_MAX || host->device_cgroup_rules.len > DEVICES_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d devices", DEVICES_MAX);
    struct filling filling = { .arena = arena, .rule_len = before->len, .devices = arena_alloc(arena, DEVICES_MAX * sizeof(*filling.devices)) };
    filling.rules = arena_alloc(arena, (before->len + DEVICES_MAX + host->device_cgroup_rules.len) * sizeof(*filling.rules));
    memcpy(filling.rules, before->items, before->len * sizeof(*filling.rules));
    for (size_t i = 0; i < host->devices.len; i++)
        if (add_device(&filling, json_list_at(&host->devices, &device_mapping_table, i), err) < 0)
            return -1;
    for (size_t i = 0; i < more_len; i++)
        if (add_wish(&filling, &more[i], err) < 0)
            return -1;
    for (size_t i = 0; i < host->device_cgroup_rules.len; i++)
        if (parse_rule(host->device_cgroup_rules.items[i], arena, &filling.rules[filling.rule_len++], err) < 0)
            return -1;
    out->devices = (struct json_list){ .items = filling.devices, .len = filling.len };
    out->resources.devices = (struct json_list){ .items = filling.rules, .len = filling.rule_len };
    return 0;
}

// ---- rates and weights ----------------------------------------------------------------------------------------------

static int device_number(const char *path, dev_t *out, struct err *err)
{
    struct stat info;
    if (stat(path, &info) < 0)
        return err_errno(err, errno, "stat %s", path);
    *out = info.st_rdev;
    return 0;
}

static int fill_rates(const struct json_list *from, struct arena *arena, const struct cgroup_device_rate **out, size_t *len, struct err *err)
{
    struct cgroup_device_rate *rates = arena_alloc(arena, (from->len + 1) * sizeof(*rates));
    for (size_t i = 0; i < from->len; i++) {
        const struct device_rate *rate = json_list_at(from, &device_rate_table, i);
        dev_t device;
        if (device_number(rate->path, &device, err) < 0)
            return -1;
        rates[i] = (struct cgroup_device_rate){ major(device), minor(device), (uint64_t)rate->rate };
    }
    *out = rates;
    *len = from->len;
    return 0;
}

static int fill_weights(const struct json_list *from, struct arena *arena, struct cgroup_limits *out, struct err *err)
{
    struct cgroup_device_weight *weights = arena_alloc(arena, (from->len + 1) * sizeof(*weights));
    for (size_t i = 0; i < from->len; i++) {
        const struct device_weight *weight = json_list_at(from, &device_weight_table, i);
        dev_t device;
        if (device_number(weight->path, &device, err) < 0)
            return -1;
        weights[i] = (struct cgroup_device_weight){ .major = major(device), .minor = minor(device), .weight = weight->weight };
    }
    out->io_weights = weights;
    out->io_weight_len = from->len;
    return 0;
}

int devices_limit(const struct host_config *host, struct arena *arena, struct cgroup_limits *out, struct err *err)
{
    if (fill_weights(&host->blkio_weights, arena, out, err) < 0 ||
        fill_rates(&host->blkio_read_bps, arena, &out->io_read_bps, &out->io_read_bps_len, err) < 0 ||
        fill_rates(&host->blkio_write_bps, arena, &out->io_write_bps, &out->io_write_bps_len, err) < 0 ||
        fill_rates(&host->blkio_read_iops, arena, &out->io_read_iops, &out->io_read_iops_len, err) < 0)
        return -1;
    return fill_rates(&host->blkio_write_iops, arena, &out->io_write_iops, &out->io_write_iops_len, err);
}
