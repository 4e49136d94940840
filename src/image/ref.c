// References by the grammar of the distribution project:
//
//     reference := [domain "/"] component ("/" component)* [":" tag] ["@" digest]
//     domain    := host [":" port]         host := name ("." name)* | "[" IPv6 "]"
//     component := [a-z0-9]+ (("." | "_" | "__" | "-"+) [a-z0-9]+)*
//     tag       := [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}
//
// The first part is a domain when it has a dot or a colon, an upper-case letter, or is "localhost"; else it belongs to the
// path on docker.io, where a single component stands below "library/".
#include "base/num.h"
#include "image_private.h"

#define DEFAULT_DOMAIN "docker.io"
#define LEGACY_DOMAIN "index.docker.io"
#define OFFICIAL "library/"
#define PATH_SIZE_MAX 255
#define TAG_SIZE_MAX 128
#define TEXT_SIZE_MAX 2048 // no valid reference is longer

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
    return is_lower(c) || is_upper(c) || is_digit(c);
}

static bool has_upper(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (is_upper(text.data[i]))
            return true;
    return false;
}

static bool only_digits(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (!is_digit(text.data[i]))
            return false;
    return text.size > 0;
}

// ---- parts ----------------------------------------------------------------------------------------------------------

static bool host_name_valid(struct slice host)
{
    struct slice label;
    if (host.size == 0 || host.data[host.size - 1] == '.')
        return false;
    while (slice_cut(&host, '.', &label)) {
        if (label.size == 0 || label.data[0] == '-' || label.data[label.size - 1] == '-')
            return false;
        for (size_t i = 0; i < label.size; i++)
            if (!is_alnum(label.data[i]) && label.data[i] != '-')
                return false;
    }
    return true;
}

// "[" hex digits and colons "]"; what follows is left in *rest.
static bool cut_ipv6(struct slice *rest)
{
    size_t end = 1;
    while (end < rest->size && (is_digit(rest->data[end]) || rest->data[end] == ':' ||
                                ((rest->data[end] | 0x20) >= 'a' && (rest->data[end] | 0x20) <= 'f')))
        end++;
    if (end == 1 || end >= rest->size || rest->data[end] != ']')
        return false;
    *rest = (struct slice){ rest->data + end + 1, rest->size - end - 1 };
    return true;
}

static bool domain_valid(struct slice domain)
{
    struct slice host, rest = domain;
    if (domain.size > 0 && domain.data[0] == '[') {
        if (!cut_ipv6(&rest))
            return false;
        return rest.size == 0 || (rest.data[0] == ':' && only_digits((struct slice){ rest.data + 1, rest.size - 1 }));
    }
    return slice_cut(&rest, ':', &host) && host_name_valid(host) && (!rest.data || only_digits(rest));
}

// The length of a separator that starts at `at`, 0 when none does.
static size_t separator_size(struct slice text, size_t at)
{
    size_t end = at;
    char c = text.data[at];
    if (c == '.')
        return 1;
    if (c != '_' && c != '-')
        return 0;
    while (end < text.size && text.data[end] == c)
        end++;
    return c == '_' && end - at > 2 ? 0 : end - at;
}

static bool component_valid(struct slice text)
{
    bool after_word = false;
    size_t at = 0;
    while (at < text.size) {
        if (is_lower(text.data[at]) || is_digit(text.data[at])) {
            after_word = true;
            at++;
            continue;
        }
        size_t separator = separator_size(text, at);
        if (separator == 0 || !after_word)
            return false;
        after_word = false;
        at += separator;
    }
    return after_word;
}

static bool path_valid(struct slice path)
{
    struct slice component;
    if (path.size == 0 || path.data[path.size - 1] == '/')
        return false;
    while (slice_cut(&path, '/', &component))
        if (!component_valid(component))
            return false;
    return true;
}

bool image_tag_valid(const char *text)
{
    const struct slice tag = slice_of(text);
    if (tag.size == 0 || tag.size > TAG_SIZE_MAX || tag.data[0] == '.' || tag.data[0] == '-')
        return false;
    for (size_t i = 0; i < tag.size; i++)
        if (!is_alnum(tag.data[i]) && !strchr("_.-", tag.data[i]))
            return false;
    return true;
}

static int check_digest(const char *digest, struct err *err)
{
    const char *colon = strchr(digest, ':');
    if (!colon || colon == digest)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid reference format");
    if (!str_starts(digest, "sha256:"))
        return err_set(err, ERR_INVALID_ARGUMENT, "unsupported digest algorithm");
    if (!hex_valid(slice_of(colon + 1)))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid reference format");
    return oci_digest_valid(digest) ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "invalid checksum digest length");
}

// ---- the whole ------------------------------------------------------------------------------------------------------

// The part before the first slash, where there is one.
static bool starts_with_domain(const char *text)
{
    const char *slash = strchr(text, '/');
    struct slice first = { text, slash ? (size_t)(slash - text) : 0 };
    return slash && (slice_eq(first, "localhost") || memchr(first.data, '.', first.size) ||
                     memchr(first.data, ':', first.size) || has_upper(first));
}

static void split_domain(const char *text, struct arena *arena, char **domain, char **rest)
{
    *domain = arena_strdup(arena, DEFAULT_DOMAIN);
    *rest = arena_strdup(arena, text);
    if (starts_with_domain(text)) {
        const char *slash = strchr(text, '/');
        char *first = arena_strndup(arena, text, (size_t)(slash - text));
        *rest = arena_strdup(arena, slash + 1);
        if (!str_eq(first, LEGACY_DOMAIN))
            *domain = first;
    }
    if (str_eq(*domain, DEFAULT_DOMAIN) && !strchr(*rest, '/'))
        *rest = arena_printf(arena, OFFICIAL "%s", *rest);
}

static void fill_familiar(struct image_ref *ref, struct arena *arena)
{
    const char *path = ref->path;
    // docker.io/a.b/c without its domain would be c on the host a.b.
    if (!str_eq(ref->domain, DEFAULT_DOMAIN) || starts_with_domain(path))
        ref->familiar_name = arena_printf(arena, "%s/%s", ref->domain, path);
    else if (str_starts(path, OFFICIAL) && !strchr(path + strlen(OFFICIAL), '/'))
        ref->familiar_name = arena_strdup(arena, path + strlen(OFFICIAL));
    else
        ref->familiar_name = arena_strdup(arena, path);
    if (ref->digest)
        ref->familiar = arena_printf(arena, "%s@%s", ref->familiar_name, ref->digest);
    else if (ref->tag)
        ref->familiar = arena_printf(arena, "%s:%s", ref->familiar_name, ref->tag);
    else
        ref->familiar = ref->familiar_name;
}

// path[:tag][@digest], cut from the right.
static void split_rest(char *rest, struct image_ref *out)
{
    out->path = rest;
    if ((out->digest = strchr(rest, '@')))
        *out->digest++ = 0;
    if ((out->tag = strchr(rest, ':')))
        *out->tag++ = 0;
}

int image_ref_parse(const char *text, bool default_tag, struct arena *arena, struct image_ref *out, struct err *err)
{
    char *rest;
    struct image_ref ref = { 0 };
    size_t size = strnlen(text, TEXT_SIZE_MAX + 1);
    if (size > TEXT_SIZE_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid reference format");
    if (size == 64 && hex_valid(slice_of(text)))
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "invalid repository name (%s), cannot specify 64-byte hexadecimal strings", text);
    split_domain(text, arena, &ref.domain, &rest);
    struct slice name = { rest, strcspn(rest, ":") };
    if (has_upper(name))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid reference format: repository name (%.*s) must be lowercase",
                       (int)name.size, name.data);
    split_rest(rest, &ref);
    if (!domain_valid(slice_of(ref.domain)) || !path_valid(slice_of(ref.path)) ||
        (ref.tag && !image_tag_valid(ref.tag)))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid reference format");
    if (strlen(ref.path) > PATH_SIZE_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "repository name must not be more than %d characters", PATH_SIZE_MAX);
    if (ref.digest && check_digest(ref.digest, err) < 0)
        return -1;
    if (default_tag && !ref.tag && !ref.digest)
        ref.tag = arena_strdup(arena, "latest");
    fill_familiar(&ref, arena);
    *out = ref;
    return 0;
}

int image_ref_parse_new(const char *text, struct arena *arena, struct image_ref *out, struct err *err)
{
    if (image_ref_parse(text, true, arena, out, err) < 0)
        return -1;
    return str_eq(out->familiar_name, "sha256")
               ? err_set(err, ERR_INVALID_ARGUMENT, "refusing to create an ambiguous tag using digest algorithm as name")
               : 0;
}

char *image_ref_key(const struct image_ref *ref, struct arena *arena)
{
    if (ref->digest)
        return arena_printf(arena, "%s/%s@%s", ref->domain, ref->path, ref->digest);
    return arena_printf(arena, "%s/%s:%s", ref->domain, ref->path, ref->tag ? ref->tag : "latest");
}
