// Names are looked up as Docker does: a base among the stages above it; a --from among all of them, so that one that
// stands below is named as such in the message, and a circle as a circle.
#include <strings.h>

#include "build/build_private.h"
#include "build/graph.h"

#define NO_STAGE SIZE_MAX

struct making {
    const struct dockerfile *file;
    const struct scope *global;
    struct graph *graph;
    struct arena *arena;
    struct err *err;
};

// The last stage of that name before `end`.
static size_t stage_named(const struct graph *graph, size_t end, const char *name)
{
    for (size_t i = end; i-- > 0;)
        if (graph->nodes[i].stage->name && strcasecmp(graph->nodes[i].stage->name, name) == 0)
            return i;
    return NO_STAGE;
}

static int add_need(struct graph_node *node, size_t stage, size_t *capacity, struct arena *arena)
{
    for (size_t i = 0; i < node->needs_len; i++)
        if (node->needs[i] == stage)
            return 0;
    if (node->needs_len == *capacity) {
        *capacity = MAX_OF((size_t)4, 2 * *capacity);
        size_t *needs = arena_alloc(arena, *capacity * sizeof(*needs));
        if (node->needs_len)
            memcpy(needs, node->needs, node->needs_len * sizeof(*needs));
        node->needs = needs;
    }
    node->needs[node->needs_len++] = stage;
    return 1;
}

int graph_from(const struct graph *graph, size_t at, const char *from, enum graph_origin *origin, size_t *stage, struct err *err)
{
    uint64_t number;
    *origin = GRAPH_STAGE;
    if (digits_only(from)) {
        if (!num_parse_u64(slice_of(from), SIZE_MAX, &number) || number >= graph->len)
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid stage index %.32s", from);
        *stage = (size_t)number;
    } else {
        *stage = stage_named(graph, graph->len, from);
        size_t above = stage_named(graph, at, from);
        if (above != NO_STAGE)
            *stage = above; // of several with one name the nearest above
        if (*stage == NO_STAGE) {
            *origin = strcasecmp(from, "scratch") == 0 ? GRAPH_SCRATCH : GRAPH_IMAGE;
            return 0;
        }
    }
    return 0;
}

static int variable_in_from(const struct making *making, const char *from)
{
    struct words words = { .arena = making->arena, .escape = making->file ? making->file->escape : '\\' };
    const char *plain;
    if (words_expand(&words, from, &plain, making->err) < 0)
        return -1;
    if (str_eq(plain, from))
        return 0;
    return err_set(making->err, ERR_INVALID_ARGUMENT,
                   "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround");
}

static int add_from(const struct making *making, size_t at, const char *from, size_t *capacity)
{
    struct graph_node *node = &making->graph->nodes[at];
    enum graph_origin origin;
    size_t stage;
    if (!from)
        return 0;
    if (variable_in_from(making, from) < 0 || graph_from(making->graph, at, from, &origin, &stage, making->err) < 0)
        return -1;
    if (origin == GRAPH_IMAGE && !strv_has(&node->images, from))
        strv_push_arena(&node->images, making->arena, from);
    return origin == GRAPH_STAGE ? add_need(node, stage, capacity, making->arena) : 0;
}

// Fills *place where an instruction's --from is wrong.
static int add_instructions(const struct making *making, size_t at, const struct instruction *list, size_t len, struct dockerfile_place *place)
{
    size_t capacity = making->graph->nodes[at].needs_len;
    int added = 0;
    for (size_t i = 0; i < len; i++) {
        int result = list[i].kind == INSTRUCTION_COPY ? add_from(making, at, list[i].copy.from, &capacity) : 0;
        for (size_t j = 0; list[i].kind == INSTRUCTION_RUN && j < list[i].run.mounts_len && result >= 0; j++)
            added |= result = add_from(making, at, list[i].run.mounts[j].from, &capacity);
        if (result < 0 && place)
            *place = list[i].place;
        if (result < 0)
            return -1;
        added |= result;
    }
    return added;
}

// ---- one stage ----

// The text with global variables; with a hint where one was not set and looks like another.
static int from_word(const struct making *making, const char *text, const char **out, struct strv *unmatched)
{
    struct words words = { .arena = making->arena, .escape = making->file->escape, .lookup = scope_lookup, .of = (void *)making->global,
                           .unmatched = unmatched };
    return words_expand(&words, text, out, making->err);
}

static bool platform_valid(const char *text)
{
    size_t parts = 1;
    for (const char *c = text; *c; c++)
        parts += *c == '/';
    return *text != '/' && parts <= 3 && !strstr(text, "//") && text[strlen(text) - 1] != '/' &&
           !text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./()")];
}

static int platform_set(const struct making *making, struct graph_node *node)
{
    const char *written = node->stage->platform;
    struct strv unmatched = { 0 };
    if (!written)
        return 0;
    if (from_word(making, written, &node->platform, &unmatched) < 0)
        return err_wrap(making->err, "failed to process arguments for platform %s", written);
    if (*node->platform && platform_valid(node->platform))
        return 0;
    struct strv names = { 0 };
    for (size_t i = 0; i < making->global->set.len; i++)
        strv_push_arena(&names, making->arena, arena_strndup(making->arena, making->global->set.items[i], strcspn(making->global->set.items[i], "=")));
    const char *message = *node->platform ? arena_printf(making->arena, "failed to parse platform %s: %s: invalid argument", written, quoted(node->platform, making->arena))
                                          : arena_printf(making->arena, "empty platform value from expression %s", written);
    return err_suggest(making->err, message, unmatched.len ? unmatched.items[0] : "", unmatched.len ? &names : &unmatched, true, making->arena);
}

static int node_make(const struct making *making, size_t at, struct dockerfile_place *place)
{
    struct graph_node *node = &making->graph->nodes[at];
    node->label = node->stage->name ? node->stage->name : arena_printf(making->arena, "stage-%zu", at);
    if (place)
        *place = node->stage->from.place;
    if (from_word(making, node->stage->base, &node->base, NULL) < 0)
        return -1;
    if (!*node->base)
        return err_set(making->err, ERR_INVALID_ARGUMENT, "base name (%s) should not be blank", node->stage->base);
    if (platform_set(making, node) < 0)
        return -1;
    node->base_stage = stage_named(making->graph, at, node->base);
    node->origin = node->base_stage != NO_STAGE ? GRAPH_STAGE : str_eq(node->base, "scratch") ? GRAPH_SCRATCH : GRAPH_IMAGE;
    size_t capacity = 0;
    if (node->origin == GRAPH_STAGE)
        add_need(node, node->base_stage, &capacity, making->arena);
    return 0;
}

// ---- all of them ----

static void mark(struct graph *graph, struct arena *arena)
{
    size_t *stack = arena_alloc(arena, (graph->len + 1) * sizeof(*stack)), depth = 0;
    for (size_t i = 0; i < graph->len; i++)
        graph->nodes[i].needed = i == graph->target;
    stack[depth++] = graph->target;
    for (graph->needed_len = 0; depth; graph->needed_len++) {
        const struct graph_node *node = &graph->nodes[stack[--depth]];
        for (size_t j = 0; j < node->needs_len; j++)
            if (!graph->nodes[node->needs[j]].needed) {
                graph->nodes[node->needs[j]].needed = true;
                stack[depth++] = node->needs[j];
            }
    }
}

// Whether `to` is reached from `at`. `seen` has a mark for each stage.
static bool reaches(const struct graph *graph, size_t at, size_t to, bool *seen, size_t *stack)
{
    size_t depth = 0;
    memset(seen, 0, graph->len);
    stack[depth++] = at;
    while (depth) {
        size_t i = stack[--depth];
        for (size_t j = 0; j < graph->nodes[i].needs_len; j++) {
            size_t need = graph->nodes[i].needs[j];
            if (need == to)
                return true;
            if (!seen[need]) {
                seen[need] = true;
                stack[depth++] = need;
            }
        }
    }
    return false;
}

// A stage needs only those above it. One below: in a circle, or out of order (which is nobody's harm in a stage that isn't made).
static int order_check(struct graph *graph, size_t at, struct arena *arena, struct err *err)
{
    const struct graph_node *node = &graph->nodes[at];
    for (size_t j = 0; j < node->needs_len; j++) {
        size_t need = node->needs[j];
        if (need < at)
            continue;
        if (need == at || reaches(graph, need, at, arena_alloc(arena, graph->len), arena_alloc(arena, (graph->len + 1) * sizeof(size_t))))
            return err_set(err, ERR_INVALID_ARGUMENT, "circular dependency detected on stage: %s", node->label);
        if (!node->needed)
            continue;
        return err_set(err, ERR_INVALID_ARGUMENT, "cannot copy from stage \"%s\", it needs to be defined before current stage \"%s\"",
                       graph->nodes[need].label, node->label);
    }
    return 0;
}

static int target_find(struct graph *graph, const char *target, struct arena *arena, struct err *err)
{
    uint64_t number;
    struct strv names = { 0 };
    graph->target = graph->len - 1;
    if (str_empty(target))
        return 0;
    graph->target = stage_named(graph, graph->len, target);
    if (graph->target != NO_STAGE)
        return 0;
    if (num_parse_u64(slice_of(target), graph->len - 1, &number)) {
        graph->target = (size_t)number;
        return 0;
    }
    for (size_t i = 0; i < graph->len; i++)
        strv_push_arena(&names, arena, graph->nodes[i].label);
    const char *shown = arena_strndup(arena, target, slice_utf8_head(slice_of(target), 256).size);
    return err_suggest(err, arena_printf(arena, "target stage %s could not be found", quoted(shown, arena)), target, &names, true, arena);
}

int graph_make(const struct dockerfile *file, const struct scope *global, const char *target, struct arena *arena, struct graph **out,
               struct dockerfile_place *place, struct err *err)
{
    struct graph *graph = arena_alloc(arena, sizeof(*graph));
    struct making making = { file, global, graph, arena, err };
    graph->len = file->len;
    graph->nodes = arena_alloc(arena, file->len * sizeof(*graph->nodes));
    for (size_t i = 0; i < file->len; i++)
        graph->nodes[i].stage = &file->stages[i];
    for (size_t i = 0; i < file->len; i++)
        if (node_make(&making, i, place) < 0)
            return -1;
    if (place)
        *place = (struct dockerfile_place){ 0 };
    if (target_find(graph, target, arena, err) < 0)
        return -1;
    for (size_t i = 0; i < file->len; i++)
        if (add_instructions(&making, i, file->stages[i].instructions, file->stages[i].len, place) < 0)
            return -1;
    mark(graph, arena);
    for (size_t i = 0; i < file->len; i++)
        if (order_check(graph, i, arena, err) < 0) {
            if (place)
                *place = file->stages[i].from.place;
            return -1;
        }
    *out = graph;
    return 0;
}

int graph_add(struct graph *graph, size_t at, const struct instruction *instructions, size_t len, struct arena *arena, struct err *err)
{
    struct making making = { .graph = graph, .arena = arena, .err = err };
    size_t before = graph->needed_len;
    if (add_instructions(&making, at, instructions, len, NULL) < 0)
        return -1;
    mark(graph, arena);
    for (size_t i = 0; i < graph->len; i++)
        if (order_check(graph, i, arena, err) < 0)
            return -1;
    return graph->needed_len > before;
}
