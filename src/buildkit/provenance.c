// What attests a result: its provenance as SLSA's predicate, version 1 or 0.2, in the words that BuildKit has for it. No build graph is in it, for there
// is none: with mode=max the Dockerfile is, and the names and values of all that the client asked for.
#include "buildkit_private.h"

#define PREDICATE_V1 "https://slsa.dev/provenance/v1"
#define PREDICATE_V02 "https://slsa.dev/provenance/v0.2"

static bool starts_with_any(const char *text, const char *const *heads, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (str_starts(text, heads[i]))
            return true;
    return false;
}

// "https://user:secret@host/" without who.
static char *redacted(const char *url, struct arena *arena)
{
    const char *host = strstr(url, "://"), *at = host ? strchr(host + 3, '@') : NULL;
    if (!at || at > host + 3 + strcspn(host + 3, "/?#"))
        return arena_strdup(arena, url);
    bool secret = memchr(host + 3, ':', (size_t)(at - host) - 3);
    return arena_printf(arena, "%.*s%s%s", (int)(host + 3 - url), url, secret ? "xxxxx:xxxxx" : "xxxxx", at);
}

// ---- what was asked for ---------------------------------------------------------------------------------------------

struct request {
    const struct solve *solve;
    const struct solve_result *result;
    struct arena *arena;
    json_t *args, *vcs, *locals;
    const char *path, *uri; // of the Dockerfile, of a context that is elsewhere
    bool whole; // nothing was left out
};

static void add_local(struct request *request, const char *name)
{
    json_array_append_new(request->locals, json_pack("{s:o}", "name", json_new_text(name)));
}

static void take_argument(struct request *request, const char *key, const char *value)
{
    static const char *const of_this_machine[] = { "cgroup-parent", "image-resolve-mode", "platform", "cache-imports", "attest:", "requestid", "local-sessionid:", "sharedkey:" },
                             *const scrubbed[] = { "build-arg:", "label:" };
    if (starts_with_any(key, of_this_machine, ARRAY_LEN(of_this_machine)))
        return;
    if (str_eq(key, "filename"))
        request->path = value;
    else if (str_eq(key, "context"))
        request->uri = redacted(value, request->arena);
    else if (str_starts(key, "vcs:") && !str_empty(value))
        json_object_set_new(request->vcs, key + strlen("vcs:"), json_new_text(redacted(value, request->arena)));
    else if (!request->solve->attest.max && starts_with_any(key, scrubbed, ARRAY_LEN(scrubbed)))
        request->whole = false;
    else if (!str_starts(key, "vcs:"))
        json_object_set_new(request->args, key, json_new_text(str_starts(key, "context:") ? redacted(value, request->arena) : value));
    if (str_starts(key, "context:") && str_starts(value, "local:"))
        add_local(request, value + strlen("local:"));
}

static void take_arguments(struct request *request)
{
    const struct kvs *attributes = &request->solve->attributes;
    const char *key = kvs_get(attributes, "contextkey"), *dockerfile = kvs_get(attributes, "dockerfilekey");
    request->args = json_object();
    request->vcs = json_object();
    request->locals = json_array();
    request->path = "Dockerfile";
    request->whole = true;
    for (size_t i = 0; i < attributes->len; i++)
        take_argument(request, attributes->items[i].key, attributes->items[i].value ? attributes->items[i].value : "");
    if (!request->uri)
        add_local(request, str_empty(key) ? "context" : key);
    if (!request->uri || dockerfile)
        add_local(request, str_empty(dockerfile) ? "dockerfile" : dockerfile);
}

static json_t *names_of(const struct request *request, int kind)
{
    json_t *list = json_array();
    for (size_t i = 0; i < request->result->source_len; i++) {
        const struct buildkit_source *source = &request->result->sources[i];
        if ((int)source->kind != kind)
            continue;
        json_t *item = json_pack("{s:o}", "id", json_new_text(source->name));
        if (source->optional)
            json_object_set_new(item, "optional", json_true());
        json_array_append_new(list, item);
    }
    return list;
}

// Takes the list.
static void put_list(json_t *object, const char *name, json_t *list)
{
    if (json_is_array(list) ? json_array_size(list) : json_object_size(list))
        json_object_set(object, name, list);
    json_decref(list);
}

static json_t *parameters(const struct request *request)
{
    json_t *out = json_pack("{s:s}", "frontend", "dockerfile.v0");
    put_list(out, "args", json_incref(request->args));
    if (request->solve->attest.max) {
        put_list(out, "secrets", names_of(request, BUILDKIT_SOURCE_SECRET));
        put_list(out, "ssh", names_of(request, BUILDKIT_SOURCE_AGENT));
    }
    put_list(out, "locals", json_incref(request->locals));
    return out;
}

// ---- what it was made of --------------------------------------------------------------------------------------------

// "pkg:docker/library/x@1?platform=linux%2Famd64"; the part before "@" is the reference as people write it.
static char *image_url(const struct request *request, const struct buildkit_source *source)
{
    const struct buildkit_config *config = &request->solve->buildkit->config;
    const char *slash = strrchr(source->name, '/'), *last = slash ? slash : source->name, *at = strchr(last, '@'), *colon = strchr(last, ':');
    size_t size = at ? (size_t)(at - source->name) : colon ? (size_t)(colon - source->name) : strlen(source->name);
    const char *tag = colon && (!at || colon < at) ? colon + 1 : at ? "" : "latest";
    const char *type = source->kind == BUILDKIT_SOURCE_LAYOUT ? "oci" : "docker";
    struct slice rest = slice_of(str_empty(source->platform) ? arena_printf(request->arena, "linux/%s", config->architecture) : source->platform), part;
    char *platform = arena_strdup(request->arena, "");
    while (slice_cut(&rest, '/', &part))
        platform = arena_printf(request->arena, "%s%s%.*s", platform, *platform ? "%2F" : "", (int)part.size, part.data);
    return arena_printf(request->arena, "pkg:%s/%.*s%s%.*s?%s%s%splatform=%s", type, (int)size, source->name, *tag ? "@" : "",
                        (int)strcspn(tag, "@"), tag, at ? "digest=" : "", at ? at + 1 : "", at ? "&" : "", platform);
}

static json_t *material(const struct request *request, const struct buildkit_source *source)
{
    const char *digest = source->digest ? source->digest : "", *colon = strchr(digest, ':');
    bool image = source->kind == BUILDKIT_SOURCE_IMAGE || source->kind == BUILDKIT_SOURCE_LAYOUT, git = source->kind == BUILDKIT_SOURCE_GIT;
    json_t *out = json_pack("{s:o}", "uri", json_new_text(image ? image_url(request, source) : redacted(source->name, request->arena)));
    if (*digest)
        json_object_set_new(out, "digest", json_pack("{s:o}", git && strlen(digest) == 40 ? "sha1" : "sha256", json_new_text(colon ? colon + 1 : digest)));
    return out;
}

static json_t *materials(const struct request *request)
{
    json_t *list = json_array();
    for (size_t i = 0; i < request->result->source_len; i++)
        if (request->result->sources[i].kind < BUILDKIT_SOURCE_SECRET)
            json_array_append_new(list, material(request, &request->result->sources[i]));
    return list;
}

// The context's own: its place and what it was.
static json_t *config_source(const struct request *request, const char *path_name)
{
    json_t *out = json_object();
    if (request->uri)
        json_object_set_new(out, "uri", json_new_text(request->uri));
    for (size_t i = 0; request->uri && i < request->result->source_len; i++) {
        const struct buildkit_source *source = &request->result->sources[i];
        size_t size = strlen(source->name);
        if (source->kind >= BUILDKIT_SOURCE_URL && source->kind <= BUILDKIT_SOURCE_GIT && str_starts(request->uri, source->name) &&
            (!request->uri[size] || request->uri[size] == '#' || request->uri[size] == '?')) {
            _cleanup_json_ json_t *same = material(request, source);
            json_object_set(out, "digest", json_object_get(same, "digest"));
        }
    }
    json_object_set_new(out, path_name, json_new_text(request->path));
    return out;
}

static json_t *metadata_of_buildkit(const struct request *request)
{
    json_t *out = json_object();
    const struct solve *solve = request->solve;
    put_list(out, "vcs", json_incref(request->vcs));
    if (solve->attest.max && solve->dockerfile)
        json_object_set_new(out, "source", json_pack("{s:[{s:o, s:s, s:o}]}", "infos", "filename", json_new_text(request->path), "language", "Dockerfile",
                                                     "data", encoded_text(slice_of(solve->dockerfile))));
    return out;
}

// ---- predicates -----------------------------------------------------------------------------------------------------

static json_t *when(int64_t ns)
{
    char text[CLOCK_TEXT_SIZE];
    clock_format(ns, text);
    return json_string(text);
}

static json_t *predicate_v1(const struct request *request)
{
    const struct solve *solve = request->solve;
    const struct attest *attest = &solve->attest;
    json_t *complete = json_pack("{s:b, s:b}", "request", request->whole, "resolvedDependencies", json_array_size(request->locals) == 0);
    json_t *metadata = json_pack("{s:s, s:o, s:o, s:o, s:o}", "invocationId", solve->ref, "startedOn", when(solve->began_ns), "finishedOn",
                                 when(clock_wall_ns()), "buildkit_metadata", metadata_of_buildkit(request), "buildkit_completeness", complete);
    if (attest->reproducible)
        json_object_set_new(metadata, "buildkit_reproducible", json_true());
    json_t *definition = json_pack("{s:s, s:{s:o, s:o}, s:{s:o}}", "buildType", "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md",
                                   "externalParameters", "configSource", config_source(request, "path"), "request", parameters(request),
                                   "internalParameters", "builderPlatform", json_sprintf("linux/%s", solve->buildkit->config.architecture));
    put_list(definition, "resolvedDependencies", materials(request));
    return json_pack("{s:o, s:{s:{s:o}, s:o}}", "buildDefinition", definition, "runDetails", "builder", "id",
                     json_new_text(attest->builder_id ? attest->builder_id : ""), "metadata", metadata);
}

static json_t *predicate_v02(const struct request *request)
{
    const struct solve *solve = request->solve;
    const struct attest *attest = &solve->attest;
    json_t *complete = json_pack("{s:b, s:b, s:b}", "parameters", request->whole, "environment", 1, "materials", json_array_size(request->locals) == 0);
    json_t *metadata = json_pack("{s:s, s:o, s:o, s:o, s:b, s:o}", "buildInvocationID", solve->ref, "buildStartedOn", when(solve->began_ns),
                                 "buildFinishedOn", when(clock_wall_ns()), "completeness", complete, "reproducible", attest->reproducible,
                                 "https://mobyproject.org/buildkit@v1#metadata", metadata_of_buildkit(request));
    json_t *invocation = json_pack("{s:o, s:o, s:{s:o}}", "configSource", config_source(request, "entryPoint"), "parameters", parameters(request),
                                   "environment", "platform", json_sprintf("linux/%s", solve->buildkit->config.architecture));
    json_t *out = json_pack("{s:{s:o}, s:s, s:o, s:o}", "builder", "id", json_new_text(attest->builder_id ? attest->builder_id : ""), "buildType",
                            "https://mobyproject.org/buildkit@v1", "invocation", invocation, "metadata", metadata);
    put_list(out, "materials", materials(request));
    return out;
}

json_t *provenance_make(const struct solve *solve, const struct solve_result *result, struct arena *arena, const char **type)
{
    struct request request = { .solve = solve, .result = result, .arena = arena };
    take_arguments(&request);
    *type = solve->attest.old ? PREDICATE_V02 : PREDICATE_V1;
    json_t *predicate = solve->attest.old ? predicate_v02(&request) : predicate_v1(&request);
    json_decref(request.args);
    json_decref(request.vcs);
    json_decref(request.locals);
    return predicate;
}
