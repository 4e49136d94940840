#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "kernel/filter.h"

// A leaf that looks at arguments jumps forward to the check's block, whose place is known only later.
struct jump {
    uint16_t at, check; // FILTER_MAX, FILTER_CHECKS_MAX: both fit
};

struct builder {
    struct filter_program *program;
    struct jump jumps[FILTER_MAX];
    size_t jump_len;
    bool overflow;
};

// The search works on a partition of all numbers: parts[i] reaches up to parts[i + 1].first - 1.
struct part {
    uint32_t first, action;
};

static size_t emit(struct builder *builder, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
    if (builder->program->len == FILTER_MAX) {
        builder->overflow = true;
        return 0;
    }
    builder->program->code[builder->program->len] = (struct sock_filter){ code, jt, jf, k };
    return builder->program->len++;
}

static bool is_check(uint32_t action)
{
    return (action & 0xffff0000U) == FILTER_CHECK(0);
}

static void emit_leaf(struct builder *builder, uint32_t action)
{
    if (!is_check(action)) {
        emit(builder, BPF_RET | BPF_K, action, 0, 0);
        return;
    }
    size_t at = emit(builder, BPF_JMP | BPF_JA, 0, 0, 0);
    if (!builder->overflow)
        builder->jumps[builder->jump_len++] = (struct jump){ (uint16_t)at, (uint16_t)(action & 0xffff) };
}

// ---- the tree -------------------------------------------------------------------------------------------------------
//
// Below parts[middle].first the left half follows, else the right one behind it. A conditional jump reaches 255
// instructions. So small trees have their leaves, one for each different action, behind the last of their nodes; what
// is larger is a long jump to either of two halves.

#define SMALL 120 // parts: as many nodes and as many leaves at most

struct small_tree {
    struct builder *builder;
    const struct part *parts;
    struct {
        size_t at;
        uint32_t action;
        bool taken; // the jump when true, else the one when false
    } exits[SMALL];
    size_t exit_len;
};

static void emit_nodes(struct small_tree *tree, size_t low, size_t high);

static void emit_child(struct small_tree *tree, size_t at, bool taken, size_t low, size_t high)
{
    struct filter_program *program = tree->builder->program;
    uint8_t distance = (uint8_t)(program->len - at - 1);
    if (low == high) {
        tree->exits[tree->exit_len].at = at;
        tree->exits[tree->exit_len].action = tree->parts[low].action;
        tree->exits[tree->exit_len++].taken = taken;
        return;
    }
    if (taken)
        program->code[at].jt = distance;
    else
        program->code[at].jf = distance;
    emit_nodes(tree, low, high);
}

static void emit_nodes(struct small_tree *tree, size_t low, size_t high)
{
    size_t middle = (low + high + 1) / 2;
    size_t at = emit(tree->builder, BPF_JMP | BPF_JGE | BPF_K, tree->parts[middle].first, 0, 0);
    emit_child(tree, at, false, low, middle - 1);
    emit_child(tree, at, true, middle, high);
}

static void emit_small_tree(struct builder *builder, const struct part *parts, size_t low, size_t high)
{
    struct small_tree tree = { .builder = builder, .parts = parts };
    emit_nodes(&tree, low, high);
    for (size_t i = 0; i < tree.exit_len; i++) {
        size_t leaf = builder->program->len;
        bool first = true;
        for (size_t k = 0; k < i; k++)
            first = first && tree.exits[k].action != tree.exits[i].action;
        if (!first)
            continue;
        emit_leaf(builder, tree.exits[i].action);
        for (size_t k = i; k < tree.exit_len; k++) {
            struct sock_filter *insn = &builder->program->code[tree.exits[k].at];
            uint8_t distance = (uint8_t)(leaf - tree.exits[k].at - 1);
            if (tree.exits[k].action == tree.exits[i].action)
                *(tree.exits[k].taken ? &insn->jt : &insn->jf) = distance;
        }
    }
}

static void emit_tree(struct builder *builder, const struct part *parts, size_t low, size_t high)
{
    if (low == high) {
        emit_leaf(builder, parts[low].action);
        return;
    }
    if (high - low < SMALL) {
        emit_small_tree(builder, parts, low, high);
        return;
    }
    size_t middle = (low + high + 1) / 2;
    emit(builder, BPF_JMP | BPF_JGE | BPF_K, parts[middle].first, 0, 1);
    size_t far = emit(builder, BPF_JMP | BPF_JA, 0, 0, 0);
    emit_tree(builder, parts, low, middle - 1);
    builder->program->code[far].k = (uint32_t)(builder->program->len - far - 1);
    emit_tree(builder, parts, middle, high);
}

static size_t add_part(struct part *parts, size_t len, uint32_t first, uint32_t action)
{
    if (len > 0 && parts[len - 1].action == action)
        return len; // neighbours with one action are one part
    parts[len] = (struct part){ first, action };
    return len + 1;
}

// Sorted spans -> parts that cover every number. Returns 0 when they overlap.
static size_t partition(const struct filter_span *spans, size_t span_len, uint32_t otherwise, struct part *parts)
{
    size_t len = 0;
    uint64_t next = 0;
    for (size_t i = 0; i < span_len; i++) {
        if (spans[i].first < next || spans[i].last < spans[i].first)
            return 0;
        if (spans[i].first > next)
            len = add_part(parts, len, (uint32_t)next, otherwise);
        len = add_part(parts, len, spans[i].first, spans[i].action);
        next = (uint64_t)spans[i].last + 1;
    }
    if (next <= UINT32_MAX)
        len = add_part(parts, len, (uint32_t)next, otherwise);
    return len;
}

static int by_first(const void *a, const void *b)
{
    const struct filter_span *left = a, *right = b;
    return left->first < right->first ? -1 : left->first > right->first;
}

static int emit_search(struct builder *builder, const struct filter_arch *arch, struct err *err)
{
    _cleanup_free_ struct part *parts = mem_alloc((2 * arch->span_len + 1) * sizeof(*parts));
    qsort(arch->spans, arch->span_len, sizeof(*arch->spans), by_first);
    size_t len = partition(arch->spans, arch->span_len, arch->otherwise, parts);
    if (len == 0)
        return err_set(err, ERR_INTERNAL, "seccomp filter: spans overlap");
    if (len > FILTER_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "seccomp filter: longer than %d instructions", FILTER_MAX);
    emit_tree(builder, parts, 0, len - 1);
    return 0;
}

static int emit_arch(struct builder *builder, const struct filter_arch *arch, struct err *err)
{
    emit(builder, BPF_JMP | BPF_JEQ | BPF_K, arch->audit_arch, 1, 0);
    size_t skip = emit(builder, BPF_JMP | BPF_JA, 0, 0, 0);
    emit(builder, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
    if (emit_search(builder, arch, err) < 0)
        return -1;
    builder->program->code[skip].k = (uint32_t)(builder->program->len - skip - 1);
    return 0;
}

// ---- arguments ------------------------------------------------------------------------------------------------------
//
// The machine compares 32 bits. A wide comparison looks at the upper half first and at the lower one only where the
// upper halves are equal. A rule ends in its action; each failing comparison of it jumps behind that, to the next
// rule.

#define FAIL 255 // a jump whose distance is not known yet; no comparison jumps that far

// Places of argument halves.
static uint32_t half(const struct filter_check *check, unsigned arg, bool upper)
{
    return (uint32_t)(offsetof(struct seccomp_data, args) + 8 * arg) + (upper != check->big_endian ? 4 : 0);
}

static void emit_load(struct builder *builder, const struct filter_check *check, unsigned arg, bool upper)
{
    emit(builder, BPF_LD | BPF_W | BPF_ABS, half(check, arg, upper), 0, 0);
}

static void emit_masked(struct builder *builder, const struct filter_check *check,
                        const struct filter_condition *condition, bool upper)
{
    uint32_t mask = (uint32_t)(upper ? condition->mask >> 32 : condition->mask);
    uint32_t value = (uint32_t)(upper ? condition->value >> 32 : condition->value);
    if (mask == 0)
        return;
    emit_load(builder, check, condition->arg, upper);
    emit(builder, BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
    emit(builder, BPF_JMP | BPF_JEQ | BPF_K, value & mask, 0, FAIL);
}

// How a comparison reads: the jump that the lower half makes; which way it goes when it holds; and what an upper half
// that is greater, or less, means for the whole.
static const struct {
    uint16_t jump;
    bool holds, greater, less;
} comparisons[] = {
    [FILTER_NE] = { BPF_JEQ, false, true, true },  [FILTER_LT] = { BPF_JGE, false, false, true },
    [FILTER_LE] = { BPF_JGT, false, false, true }, [FILTER_EQ] = { BPF_JEQ, true, false, false },
    [FILTER_GE] = { BPF_JGE, true, true, false },  [FILTER_GT] = { BPF_JGT, true, true, false },
};

// Behind the upper half come two instructions for the lower.
#define PASS 2

static void emit_upper(struct builder *builder, const struct filter_check *check,
                       const struct filter_condition *condition)
{
    uint32_t value = (uint32_t)(condition->value >> 32);
    uint8_t greater = comparisons[condition->compare].greater ? PASS : FAIL;
    uint8_t less = comparisons[condition->compare].less ? PASS : FAIL;
    emit_load(builder, check, condition->arg, true);
    if (greater != less)
        emit(builder, BPF_JMP | BPF_JGT | BPF_K, value, greater == PASS ? PASS + 1 : FAIL, 0);
    emit(builder, BPF_JMP | BPF_JEQ | BPF_K, value, 0, less);
}

static void emit_condition(struct builder *builder, const struct filter_check *check,
                           const struct filter_condition *condition)
{
    if (condition->compare == FILTER_MASKED_EQ) {
        if (check->wide)
            emit_masked(builder, check, condition, true);
        emit_masked(builder, check, condition, false);
        return;
    }
    bool holds = comparisons[condition->compare].holds;
    if (check->wide)
        emit_upper(builder, check, condition);
    emit_load(builder, check, condition->arg, false);
    emit(builder, BPF_JMP | comparisons[condition->compare].jump | BPF_K, (uint32_t)condition->value, holds ? 0 : FAIL,
         holds ? FAIL : 0);
}

static void emit_rule(struct builder *builder, const struct filter_check *check, const struct filter_rule *rule)
{
    size_t first = builder->program->len;
    for (size_t i = 0; i < rule->len; i++)
        emit_condition(builder, check, &rule->conditions[i]);
    emit(builder, BPF_RET | BPF_K, rule->action, 0, 0);
    for (size_t i = first; i < builder->program->len; i++) {
        struct sock_filter *insn = &builder->program->code[i];
        uint8_t distance = (uint8_t)(builder->program->len - i - 1);
        if (BPF_CLASS(insn->code) == BPF_JMP && insn->jt == FAIL)
            insn->jt = distance;
        if (BPF_CLASS(insn->code) == BPF_JMP && insn->jf == FAIL)
            insn->jf = distance;
    }
}

static bool bad_condition(const struct filter_condition *condition)
{
    return condition->arg > 5 || condition->compare > FILTER_MASKED_EQ;
}

static int validate(const struct filter_check *check, struct err *err)
{
    for (size_t i = 0; i < check->rule_len; i++)
        for (size_t k = 0; k < check->rules[i].len; k++)
            if (check->rules[i].len > FILTER_CONDITIONS_MAX || bad_condition(&check->rules[i].conditions[k]))
                return err_set(err, ERR_INTERNAL, "seccomp filter: bad condition");
    return 0;
}

// Rules in a row that ask one argument for small values, with one action, load it once.
#define RUN_MAX 200

static bool is_plain(const struct filter_rule *rule)
{
    const struct filter_condition *condition = &rule->conditions[0];
    bool no_more =
        condition->compare == FILTER_EQ || condition->compare == FILTER_LT || condition->compare == FILTER_LE;
    return rule->len == 1 && no_more && condition->value <= UINT32_MAX;
}

static size_t run_length(const struct filter_check *check, size_t first)
{
    size_t len = 0;
    while (first + len < check->rule_len && len < RUN_MAX && is_plain(&check->rules[first + len]) &&
           check->rules[first + len].action == check->rules[first].action &&
           check->rules[first + len].conditions[0].arg == check->rules[first].conditions[0].arg)
        len++;
    return len;
}

static void emit_run(struct builder *builder, const struct filter_check *check, size_t first, size_t len)
{
    const struct filter_rule *rules = &check->rules[first];
    if (check->wide) {
        emit_load(builder, check, rules->conditions[0].arg, true);
        emit(builder, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, (uint8_t)(len + 2));
    }
    emit_load(builder, check, rules->conditions[0].arg, false);
    for (size_t i = 0; i < len; i++) {
        const struct filter_condition *condition = &rules[i].conditions[0];
        bool holds = comparisons[condition->compare].holds;
        uint8_t hit = (uint8_t)(len - i - 1), miss = i + 1 < len ? 0 : 1;
        emit(builder, BPF_JMP | comparisons[condition->compare].jump | BPF_K, (uint32_t)condition->value,
             holds ? hit : miss, holds ? miss : hit);
    }
    emit(builder, BPF_RET | BPF_K, rules->action, 0, 0);
}

static int emit_check(struct builder *builder, const struct filter_check *check, struct err *err)
{
    if (validate(check, err) < 0)
        return -1;
    for (size_t i = 0, len; i < check->rule_len; i += len) {
        len = run_length(check, i);
        if (len > 1) {
            emit_run(builder, check, i, len);
        } else {
            len = 1;
            emit_rule(builder, check, &check->rules[i]);
        }
    }
    emit(builder, BPF_RET | BPF_K, check->otherwise, 0, 0);
    return 0;
}

// ---- the whole ------------------------------------------------------------------------------------------------------

static int emit_checks(struct builder *builder, const struct filter_check *checks, size_t check_len, struct err *err)
{
    _cleanup_free_ size_t *places = mem_alloc((check_len + 1) * sizeof(*places));
    for (size_t i = 0; i < check_len; i++) {
        places[i] = builder->program->len;
        if (emit_check(builder, &checks[i], err) < 0)
            return -1;
    }
    for (size_t i = 0; i < builder->jump_len; i++) {
        const struct jump *jump = &builder->jumps[i];
        if (jump->check >= check_len)
            return err_set(err, ERR_INTERNAL, "seccomp filter: no check %u", jump->check);
        builder->program->code[jump->at].k = (uint32_t)(places[jump->check] - jump->at - 1);
    }
    return 0;
}

int filter_compile(const struct filter_arch *arches, size_t arch_len, const struct filter_check *checks,
                   size_t check_len, uint32_t foreign, struct filter_program *out, struct err *err)
{
    _cleanup_free_ struct builder *builder = mem_new(struct builder);
    builder->program = out;
    out->len = 0;
    if (check_len > FILTER_CHECKS_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "seccomp filter: too many argument checks");
    emit(builder, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0, 0);
    for (size_t i = 0; i < arch_len; i++)
        if (emit_arch(builder, &arches[i], err) < 0)
            return -1;
    emit(builder, BPF_RET | BPF_K, foreign, 0, 0);
    if (emit_checks(builder, checks, check_len, err) < 0)
        return -1;
    if (builder->overflow)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "seccomp filter: longer than %d instructions", FILTER_MAX);
    return 0;
}

uint32_t filter_run(const struct filter_program *program, const struct seccomp_data *data)
{
    uint32_t a = 0;
    for (size_t pc = 0; pc < program->len; pc++) {
        const struct sock_filter *insn = &program->code[pc];
        switch (insn->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            if (insn->k > sizeof(*data) - 4)
                return UINT32_MAX;
            memcpy(&a, (const char *)data + insn->k, 4);
            break;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= insn->k;
            break;
        case BPF_JMP | BPF_JA:
            pc += insn->k;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            pc += a == insn->k ? insn->jt : insn->jf;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            pc += a >= insn->k ? insn->jt : insn->jf;
            break;
        case BPF_JMP | BPF_JGT | BPF_K:
            pc += a > insn->k ? insn->jt : insn->jf;
            break;
        case BPF_JMP | BPF_JSET | BPF_K:
            pc += (a & insn->k) ? insn->jt : insn->jf;
            break;
        case BPF_RET | BPF_K:
            return insn->k;
        default:
            return UINT32_MAX;
        }
    }
    return UINT32_MAX;
}

static int load(const struct filter_program *program, struct err *err)
{
    struct sock_fprog code = { .len = (unsigned short)program->len, .filter = (struct sock_filter *)program->code };
    int result = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, program->flags, &code);
    return result < 0 ? err_errno(err, errno, "load seccomp filter") : result;
}

int filter_load(const struct filter_program *program, struct err *err)
{
    if (program->flags & SECCOMP_FILTER_FLAG_NEW_LISTENER)
        return err_set(err, ERR_INTERNAL, "seccomp filter: nobody takes its listener");
    return load(program, err);
}

int filter_load_listener(const struct filter_program *program, struct err *err)
{
    if (!(program->flags & SECCOMP_FILTER_FLAG_NEW_LISTENER))
        return err_set(err, ERR_INTERNAL, "seccomp filter: has no listener");
    return load(program, err);
}
