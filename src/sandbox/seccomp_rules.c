#include <errno.h>

#include "seccomp_rules.h"

#define X32_BIT 0x40000000U
#define FOREIGN SECCOMP_RET_KILL_THREAD // what libseccomp does with calls by architectures that a profile does not list
#define IPC_BASE SYSCALL_IPC(0)

void seccomp_rules_done(struct seccomp_rules *rules)
{
    free(rules->rules);
    *rules = (struct seccomp_rules){ 0 };
}

void seccomp_rules_add_arch(struct seccomp_rules *rules, const struct syscall_arch *arch)
{
    for (size_t i = 0; i < rules->arch_len; i++)
        if (rules->archs[i] == arch)
            return;
    if (rules->arch_len < SECCOMP_ARCHS_MAX) // there are fewer kinds than that
        rules->archs[rules->arch_len++] = arch;
}

int seccomp_rules_add(struct seccomp_rules *rules, const struct syscall_row *row, const struct filter_rule *match,
                      struct err *err)
{
    if (rules->len == SECCOMP_RULES_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "seccomp: more than %d rules", SECCOMP_RULES_MAX);
    if (rules->len == rules->capacity) {
        rules->capacity = rules->capacity ? rules->capacity * 2 : 512;
        rules->rules = mem_grow(rules->rules, rules->capacity * sizeof(*rules->rules));
    }
    rules->rules[rules->len++] = (struct seccomp_rule){ row, *match };
    return 0;
}

// ---- one architecture -----------------------------------------------------------------------------------------------

// A rule with its number. One that stands behind socketcall or ipc has that call's number.
struct entry {
    uint32_t number;
    uint32_t order;
    uint8_t behind; // what the first argument must be; 0: the rule's own conditions
    const struct seccomp_rule *rule;
};

struct work {
    const struct seccomp_rules *rules;
    struct entry *entries; // of the architecture at hand
    size_t entry_len;
    struct filter_rule *matches; // of all checks, in one array
    size_t match_len;
    struct filter_check *checks;
    size_t check_len;
    struct filter_span *spans; // of all architectures, in one array
    size_t span_len;
};

static void add_entry(struct work *work, int64_t number, uint8_t behind, size_t index)
{
    if (number >= 0)
        work->entries[work->entry_len++] =
            (struct entry){ (uint32_t)number, (uint32_t)index, behind, &work->rules->rules[index] };
}

static int by_number(const void *a, const void *b)
{
    const struct entry *left = a, *right = b;
    if (left->number != right->number)
        return left->number < right->number ? -1 : 1;
    return left->order < right->order ? -1 : left->order > right->order;
}

static void collect(struct work *work, const struct syscall_arch *arch)
{
    work->entry_len = 0;
    for (size_t i = 0; i < work->rules->len; i++) {
        const struct syscall_row *row = work->rules->rules[i].row;
        add_entry(work, syscall_number(arch, row), 0, i);
        if (row->behind > IPC_BASE)
            add_entry(work, arch->ipc, (uint8_t)(row->behind - IPC_BASE), i);
        else if (row->behind)
            add_entry(work, arch->socketcall, row->behind, i);
    }
    qsort(work->entries, work->entry_len, sizeof(*work->entries), by_number);
}

static void add_span(struct work *work, uint32_t first, uint32_t last, uint32_t action)
{
    work->spans[work->span_len++] = (struct filter_span){ first, last, action };
}

static bool says_nothing(const struct work *work, const struct entry *entry)
{
    return entry->rule->match.action == work->rules->default_action;
}

static void add_match(struct work *work, const struct entry *entry)
{
    struct filter_rule *match = &work->matches[work->match_len++];
    *match = entry->rule->match;
    if (!entry->behind)
        return;
    match->len = 0;
    match->conditions[match->len++] = (struct filter_condition){ .compare = FILTER_EQ, .value = entry->behind };
    for (size_t i = 0; i < entry->rule->match.len; i++)
        if (entry->rule->match.conditions[i].arg != 0 && match->len < FILTER_CONDITIONS_MAX)
            match->conditions[match->len++] = entry->rule->match.conditions[i];
}

// Entries first..last-1 are the rules of one call.
static void add_call(struct work *work, const struct syscall_arch *arch, size_t first, size_t last)
{
    uint32_t number = work->entries[first].number;
    struct filter_check check = { .rules = &work->matches[work->match_len],
                                  .otherwise = work->rules->default_action,
                                  .wide = arch->wide,
                                  .big_endian = arch->big_endian };
    size_t before = work->match_len;
    for (size_t i = first; i < last; i++) {
        const struct entry *entry = &work->entries[i];
        if (says_nothing(work, entry))
            continue;
        if (!entry->behind && entry->rule->match.len == 0) {
            work->match_len = before;
            add_span(work, number, number, entry->rule->match.action);
            return;
        }
        add_match(work, entry);
    }
    check.rule_len = work->match_len - before;
    if (check.rule_len == 0)
        return;
    add_span(work, number, number, FILTER_CHECK(work->check_len));
    work->checks[work->check_len++] = check;
}

static bool is_s390(const struct syscall_arch *arch)
{
    return arch->column == SYSCALL_S390 || arch->column == SYSCALL_S390X;
}

// Returns the highest number that the rules name, or -1.
static int64_t add_calls(struct work *work, const struct syscall_arch *arch)
{
    collect(work, arch);
    for (size_t first = 0, last; first < work->entry_len; first = last) {
        for (last = first; last < work->entry_len && work->entries[last].number == work->entries[first].number;)
            last++;
        add_call(work, arch, first, last);
    }
    // s390 reports a number that it does not know as call 0, which no program makes any more.
    if (work->rules->newer_is_enosys && work->entry_len && is_s390(arch))
        add_span(work, 0, 0, FILTER_ERRNO(ENOSYS));
    return work->entry_len ? (int64_t)work->entries[work->entry_len - 1].number : -1;
}

static void add_newer(struct work *work, int64_t newest, uint32_t last)
{
    if (work->rules->newer_is_enosys && newest >= 0 && newest < last)
        add_span(work, (uint32_t)newest + 1, last, FILTER_ERRNO(ENOSYS));
}

static bool lists(const struct seccomp_rules *rules, enum syscall_column column)
{
    for (size_t i = 0; i < rules->arch_len; i++)
        if (rules->archs[i]->column == column)
            return true;
    return false;
}

// x32 shares the architecture of x86_64 and has its numbers with a bit set. Where it is not listed those numbers are
// foreign, but for -1, which a tracer writes to skip a call.
static void add_x86_64(struct work *work, const struct syscall_arch *arch)
{
    int64_t newest = add_calls(work, arch);
    add_newer(work, newest, X32_BIT - 1);
    if (lists(work->rules, SYSCALL_X32)) {
        add_newer(work, add_calls(work, syscall_arch_find(slice_of("SCMP_ARCH_X32"))), UINT32_MAX);
        return;
    }
    bool newer = work->rules->newer_is_enosys && newest >= 0;
    add_span(work, X32_BIT, 2 * X32_BIT - 1, FOREIGN);
    add_span(work, 2 * X32_BIT, 3 * X32_BIT - 1, newer ? FILTER_ERRNO(ENOSYS) : FOREIGN);
    add_span(work, 3 * X32_BIT, UINT32_MAX - 1, FOREIGN);
}

// ---- all of them ----------------------------------------------------------------------------------------------------

static size_t add_arch(struct work *work, const struct syscall_arch *arch, struct filter_arch *out)
{
    if (arch->column == SYSCALL_X32 && lists(work->rules, SYSCALL_X86_64))
        return 0; // done together with it
    *out = (struct filter_arch){ arch->audit_arch, &work->spans[work->span_len], 0, work->rules->default_action };
    size_t before = work->span_len;
    if (arch->column == SYSCALL_X86_64)
        add_x86_64(work, arch);
    else
        add_newer(work, add_calls(work, arch), UINT32_MAX);
    out->span_len = work->span_len - before;
    return 1;
}

int seccomp_rules_compile(const struct seccomp_rules *rules, struct filter_program *out, struct err *err)
{
    // A rule gives at most two entries on an architecture, each at most one span, match and check.
    size_t most = (2 * rules->len + 8) * (rules->arch_len + 1);
    _cleanup_free_ struct entry *entries = mem_alloc((2 * rules->len + 1) * sizeof(*entries));
    _cleanup_free_ struct filter_rule *matches = mem_alloc(most * sizeof(*matches));
    _cleanup_free_ struct filter_check *checks = mem_alloc(most * sizeof(*checks));
    _cleanup_free_ struct filter_span *spans = mem_alloc(most * sizeof(*spans));
    struct work work = { .rules = rules, .entries = entries, .matches = matches, .checks = checks, .spans = spans };
    struct filter_arch archs[SECCOMP_ARCHS_MAX];
    size_t arch_len = 0;
    for (size_t i = 0; i < rules->arch_len; i++)
        arch_len += add_arch(&work, rules->archs[i], &archs[arch_len]);
    return filter_compile(archs, arch_len, checks, work.check_len, FOREIGN, out, err);
}
