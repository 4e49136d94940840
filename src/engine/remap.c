// Theory of operation: nothing in the data root is given to anybody. Layers and uppers keep the ids that containers know, 0 and up; they
// are seen through mounts with the map of a container's user namespace, and the overlay on top writes as its root. So images are shared
// by containers with the option, without it and behind the VM wall, and the option can come and go.
#include "remap.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "base/process.h"
#include "kernel/mount.h"
#include "subid.h"

#define DEFAULT_USER "dockremap"
#define PROBE_FOLDER ".remap-probe"

enum { DEFAULT_COUNT = 65536, LOOKUP_MAX = 16384 };

// ---- who ------------------------------------------------------------------------------------------------------------

struct person {
    char name[LOGIN_NAME_MAX];
    uid_t uid;
};

// The wish has 32-bit numbers, as dockerd reads them.
static bool number_of(struct slice text, uint32_t *out)
{
    int64_t number;
    bool good = num_parse_i64(text, &number) && number >= 0 && number <= INT32_MAX;
    *out = good ? (uint32_t)number : 0;
    return good;
}

static bool find_user(const char *name, uid_t uid, struct person *out)
{
    char data[LOOKUP_MAX];
    struct passwd entry, *found = NULL;
    if ((name ? getpwnam_r(name, &entry, data, sizeof(data), &found) : getpwuid_r(uid, &entry, data, sizeof(data), &found)) != 0 || !found)
        return false;
    snprintf(out->name, sizeof(out->name), "%s", entry.pw_name);
    out->uid = entry.pw_uid;
    return true;
}

static bool has_group(const char *name, gid_t gid)
{
    char data[LOOKUP_MAX];
    struct group entry, *found = NULL;
    return (name ? getgrnam_r(name, &entry, data, sizeof(data), &found) : getgrgid_r(gid, &entry, data, sizeof(data), &found)) == 0 && found;
}

static int read_file(const char *path, struct buf *out, struct err *err)
{
    struct err missing = { 0 };
    if (file_read_at(AT_FDCWD, path, out, &missing) == 0 || missing.number == ENOENT)
        return 0;
    return err_set(err, missing.class, "%s", missing.message);
}

static int free_ranges(uint32_t *from, struct err *err)
{
    _cleanup_buf_ struct buf uids = BUF_INIT(SUBID_TEXT_MAX), gids = BUF_INIT(SUBID_TEXT_MAX);
    if (read_file("/etc/subuid", &uids, err) < 0 || read_file("/etc/subgid", &gids, err) < 0)
        return -1;
    uint32_t uid = subid_free(buf_text(&uids), DEFAULT_COUNT), gid = subid_free(buf_text(&gids), DEFAULT_COUNT);
    *from = MAX_OF(uid, gid);
    return uid && gid ? 0 : err_set(err, ERR_RESOURCE_EXHAUSTED, "no %d ids are free", DEFAULT_COUNT);
}

// useradd gives no ranges to users of the system.
static int add_user(struct err *err)
{
    char range[32];
    uint32_t from;
    char *const user[] = { (char *)"useradd", (char *)"--system", (char *)"--user-group", (char *)"--no-create-home", (char *)"--shell",
                           (char *)"/bin/false", (char *)DEFAULT_USER, NULL };
    char *const ranges[] = { (char *)"usermod", (char *)"--add-subuids", range, (char *)"--add-subgids", range, (char *)DEFAULT_USER, NULL };
    if (free_ranges(&from, err) < 0)
        return -1;
    snprintf(range, sizeof(range), "%u-%u", from, from + DEFAULT_COUNT - 1);
    return process_run(user, NULL, NULL, err) < 0 ? -1 : process_run(ranges, NULL, NULL, err);
}

static int user_of(struct slice text, struct person *out, struct err *err)
{
    _cleanup_free_ char *name = mem_strndup(text.data, text.size);
    uint32_t uid;
    if (number_of(text, &uid))
        return find_user(NULL, uid, out) ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "Uid %u has no entry in /etc/passwd: no matching entries in passwd file", uid);
    bool ours = str_eq(name, "default");
    if (find_user(ours ? DEFAULT_USER : name, 0, out))
        return 0;
    if (!ours)
        return err_set(err, ERR_INVALID_ARGUMENT, "Error during uid lookup for \"%s\": no matching entries in passwd file", name);
    if (add_user(err) < 0)
        return err_wrap(err, "Error during \"" DEFAULT_USER "\" user creation");
    return find_user(DEFAULT_USER, 0, out) ? 0 : err_set(err, ERR_INTERNAL, "Error during \"" DEFAULT_USER "\" user creation: it is not there");
}

// Its ranges are the user's: a group only has to be one.
static int check_group(struct slice text, const char *where, struct err *err)
{
    _cleanup_free_ char *name = mem_strndup(text.data, text.size);
    uint32_t gid;
    if (number_of(text, &gid))
        return has_group(NULL, gid) ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "Gid %u has no entry in %s: no matching entries in group file", gid, where);
    if (has_group(str_eq(name, "default") ? DEFAULT_USER : name, 0))
        return 0;
    return err_set(err, ERR_INVALID_ARGUMENT, "Error during %s lookup for \"%s\": no matching entries in group file", str_eq(where, "/etc/group") ? "gid" : "groupname", name);
}

static int resolve(const char *wish, struct person *out, struct err *err)
{
    struct slice rest = slice_of(wish), user, group;
    slice_cut(&rest, ':', &user);
    bool two = rest.data != NULL;
    if (two && (slice_cut(&rest, ':', &group), rest.data))
        return err_set(err, ERR_INVALID_ARGUMENT, "Invalid user/group specification in --userns-remap: \"%s\"", wish);
    if (user_of(user, out, err) < 0)
        return -1;
    return two ? check_group(group, "/etc/passwd", err) : check_group(user, "/etc/group", err);
}

// ---- which ids ------------------------------------------------------------------------------------------------------

static int read_ranges(const char *what, const struct person *person, struct users_map *out, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(SUBID_TEXT_MAX);
    _cleanup_free_ char *path = mem_printf("/etc/%s", what);
    if (read_file(path, &text, err) < 0 || subid_parse(buf_text(&text), what, person->name, person->uid, out, err) < 0)
        return err_wrap(err, "Can't create ID mappings");
    return 0;
}

int remap_read(const char *wish, struct remap **out, struct err *err)
{
    struct person person;
    *out = NULL;
    if (str_empty(wish) || str_eq(wish, "host"))
        return 0;
    if (resolve(wish, &person, err) < 0)
        return -1;
    if (person.uid == 0) {
        log_warn("User namespaces: root cannot be remapped with itself; user namespaces are OFF");
        return 0;
    }
    _cleanup_free_ struct remap *remap = mem_new(struct remap);
    if (read_ranges("subuid", &person, &remap->uids, err) < 0 || read_ranges("subgid", &person, &remap->gids, err) < 0)
        return -1;
    users_outside(&remap->uids, 0, &remap->root_uid); // a map begins with 0
    users_outside(&remap->gids, 0, &remap->root_gid);
    log_info("User namespaces: ID ranges will be mapped to subuid/subgid ranges of: %s", person.name);
    *out = take_ptr(&remap);
    return 0;
}

// ---- where ----------------------------------------------------------------------------------------------------------

static int open_below(int folder_fd, const char *name, struct err *err)
{
    int fd = openat(folder_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "%s", name) : fd;
}

static int try_overlay(const struct remap *remap, int clone_fd, struct err *err)
{
    _cleanup_close_ int lower = open_below(clone_fd, "lower", err), upper = open_below(clone_fd, "upper", err), work = open_below(clone_fd, "work", err);
    if (lower < 0 || upper < 0 || work < 0)
        return -1;
    const struct mount_overlay overlay = { .lower_fds = &lower, .lower_len = 1, .upper_fd = upper, .work_fd = work,
                                           .root_uid = remap->root_uid, .root_gid = remap->root_gid };
    _cleanup_close_ int root = mount_overlay(&overlay, MOUNT_OVERLAY_ANY, err);
    if (root < 0)
        return -1;
    return fchownat(root, "", remap->root_uid, remap->root_gid, AT_EMPTY_PATH) < 0 ? err_errno(err, errno, "write to an overlay with an id map") : 0;
}

static int try_folder(const struct remap *remap, int folder_fd, struct err *err)
{
    static const char *const names[] = { "lower", "upper", "work" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (file_mkdirs(folder_fd, names[i], 0755, err) < 0)
            return -1;
    _cleanup_close_ int users_fd = users_make(&remap->uids, &remap->gids, err);
    _cleanup_close_ int clone = users_fd < 0 ? -1 : mount_clone_mapped(folder_fd, users_fd, err);
    return clone < 0 ? -1 : try_overlay(remap, clone, err);
}

int remap_probe(const struct remap *remap, int folder_fd, const char *folder, struct err *err)
{
    if (file_mkdirs(folder_fd, PROBE_FOLDER, 0700, err) < 0)
        return -1;
    _cleanup_close_ int probe = file_open_dir(folder_fd, PROBE_FOLDER, err);
    int done = probe < 0 ? -1 : try_folder(remap, probe, err);
    file_remove_tree(folder_fd, PROBE_FOLDER, NULL);
    return done < 0 ? err_wrap(err, "--userns-remap: %s can't have id maps", folder) : 0;
}
