#include "subid.h"

#include "base/num.h"
#include "base/slice.h"

enum { FIRST_FREE = 100000 };

struct subid {
    struct slice name;
    uint64_t first, count;
};

static bool parse_fields(struct slice line, struct subid *out)
{
    struct slice first, count;
    return slice_cut(&line, ':', &out->name) && slice_cut(&line, ':', &first) && slice_cut(&line, ':', &count) && !line.data &&
           num_parse_u64(first, UINT32_MAX, &out->first) && num_parse_u64(count, UINT32_MAX, &out->count);
}

static bool is_of(struct slice line, const char *user, uid_t uid)
{
    struct slice name;
    uint64_t number;
    return slice_cut(&line, ':', &name) && (slice_eq(name, user) || (num_parse_u64(name, UINT32_MAX, &number) && number == uid));
}

static bool overlaps(const struct users_map *map, const struct subid *subid)
{
    for (size_t i = 0; i < map->len; i++)
        if (subid->first < (uint64_t)map->ranges[i].outside + map->ranges[i].len && map->ranges[i].outside < subid->first + subid->count)
            return true;
    return false;
}

static int add(struct users_map *map, const struct subid *subid, const char *what, const char *user, struct err *err)
{
    const struct users_range *last = map->len ? &map->ranges[map->len - 1] : NULL;
    uint64_t inside = last ? (uint64_t)last->inside + last->len : 0;
    if (map->len == USERS_RANGES_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s of user \"%s\": more than %d ranges", what, user, USERS_RANGES_MAX);
    if (subid->count == 0 || subid->first + subid->count > UINT32_MAX || inside + subid->count > UINT32_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s of user \"%s\": %llu ids from %llu on is out of range", what, user,
                       (unsigned long long)subid->count, (unsigned long long)subid->first);
    if (subid->first == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s of user \"%s\": the host's root is among the ids", what, user);
    if (overlaps(map, subid))
        return err_set(err, ERR_INVALID_ARGUMENT, "%s of user \"%s\": two ranges share ids", what, user);
    map->ranges[map->len++] = (struct users_range){ (uint32_t)inside, (uint32_t)subid->first, (uint32_t)subid->count };
    return 0;
}

int subid_parse(const char *text, const char *what, const char *user, uid_t uid, struct users_map *out, struct err *err)
{
    struct slice rest = slice_of(text), line;
    out->len = 0;
    while (slice_cut(&rest, '\n', &line)) {
        struct subid subid;
        line = slice_trim(line);
        if (!is_of(line, user, uid))
            continue;
        if (!parse_fields(line, &subid))
            return err_set(err, ERR_INVALID_ARGUMENT, "Cannot parse subuid/gid information: Format not correct for /etc/%s file", what);
        if (add(out, &subid, what, user, err) < 0)
            return -1;
    }
    return out->len ? 0 : err_set(err, ERR_NOT_FOUND, "no %s ranges found for user \"%s\"", what, user);
}

uint32_t subid_free(const char *text, uint32_t count)
{
    struct slice rest = slice_of(text), line;
    uint64_t first = FIRST_FREE;
    while (slice_cut(&rest, '\n', &line)) {
        struct subid subid;
        if (parse_fields(slice_trim(line), &subid) && subid.first + subid.count > first)
            first = subid.first + subid.count;
    }
    return first + count <= UINT32_MAX ? (uint32_t)first : 0;
}
