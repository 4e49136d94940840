#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "kernel/filter.h"

#define CHECKS_MAX 8
#define SPANS_MAX 1024
#define JUMPS_MAX 512

// A leaf that looks at an argument jumps forward to the check's block, whose place is known only later.
struct jump {
    size_t at;
    uint32_t check;
};

struct builder {
    struct filter_program *program;
    struct jump jumps[JUMPS_MAX];
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
    if (builder->jump_len == JUMPS_MAX)
        builder->overflow = true;
    else
        builder->jumps[builder->jump_len++] = (struct jump){ at, action & 0xffff };
}

// Numbers of parts[low..high]: below parts[middle].first the left half follows, else the right one behind it.
static void emit_tree(struct builder *builder, const struct part *parts, size_t low, size_t high)
{
    if (low == high) {
        emit_leaf(builder, parts[low].action);
        return;
    }
    size_t middle = (low + high + 1) / 2;
    // A conditional jump reaches 255 instructions: a half of up to 100 parts (at most 2 each) surely fits.
    bool near = middle - low <= 100;
    size_t at = emit(builder, BPF_JMP | BPF_JGE | BPF_K, parts[middle].first, 0, near ? 0 : 1);
    size_t far = near ? at : emit(builder, BPF_JMP | BPF_JA, 0, 0, 0);
    emit_tree(builder, parts, low, middle - 1);
    size_t distance = builder->program->len - far - 1;
    if (near)
        builder->program->code[at].jt = (uint8_t)distance;
    else
        builder->program->code[far].k = (uint32_t)distance;
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

static int emit_search(struct builder *builder, const struct filter_span *spans, size_t span_len, uint32_t otherwise,
                       struct err *err)
{
    struct part parts[2 * SPANS_MAX + 1];
    size_t len = span_len > SPANS_MAX ? 0 : partition(spans, span_len, otherwise, parts);
    if (len == 0)
        return err_set(err, ERR_INTERNAL, "seccomp filter: spans overlap or are too many");
    emit_tree(builder, parts, 0, len - 1);
    return 0;
}

static int by_first(const void *a, const void *b)
{
    const struct filter_span *left = a, *right = b;
    return left->first < right->first ? -1 : left->first > right->first;
}

static int emit_arch(struct builder *builder, const struct filter_arch *arch, struct err *err)
{
    emit(builder, BPF_JMP | BPF_JEQ | BPF_K, arch->audit_arch, 1, 0);
    size_t skip = emit(builder, BPF_JMP | BPF_JA, 0, 0, 0);
    emit(builder, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
    if (arch->ignored_bits)
        emit(builder, BPF_ALU | BPF_AND | BPF_K, ~arch->ignored_bits, 0, 0);
    qsort(arch->spans, arch->span_len, sizeof(*arch->spans), by_first);
    if (emit_search(builder, arch->spans, arch->span_len, arch->otherwise, err) < 0)
        return -1;
    builder->program->code[skip].k = (uint32_t)(builder->program->len - skip - 1);
    return 0;
}

static int emit_check(struct builder *builder, const struct filter_check *check, struct err *err)
{
    uint32_t low = (uint32_t)(offsetof(struct seccomp_data, args) + 8 * check->arg); // little-endian
    if (check->mask) {
        emit(builder, BPF_LD | BPF_W | BPF_ABS, low, 0, 0);
        emit(builder, BPF_JMP | BPF_JSET | BPF_K, check->mask, 0, 1);
        emit(builder, BPF_RET | BPF_K, check->otherwise, 0, 0);
        emit(builder, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
        return 0;
    }
    emit(builder, BPF_LD | BPF_W | BPF_ABS, low + 4, 0, 0);
    emit(builder, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
    emit(builder, BPF_RET | BPF_K, check->otherwise, 0, 0);
    emit(builder, BPF_LD | BPF_W | BPF_ABS, low, 0, 0);
    return emit_search(builder, check->spans, check->span_len, check->otherwise, err);
}

int filter_compile(const struct filter_arch *arches, size_t arch_len, const struct filter_check *checks,
                   size_t check_len, struct filter_program *out, struct err *err)
{
    struct builder builder = { .program = out };
    size_t places[CHECKS_MAX];
    out->len = 0;
    if (check_len > CHECKS_MAX)
        return err_set(err, ERR_INTERNAL, "seccomp filter: too many argument checks");
    emit(&builder, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0, 0);
    for (size_t i = 0; i < arch_len; i++)
        if (emit_arch(&builder, &arches[i], err) < 0)
            return -1;
    emit(&builder, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
    for (size_t i = 0; i < check_len; i++) {
        places[i] = out->len;
        if (emit_check(&builder, &checks[i], err) < 0)
            return -1;
    }
    if (builder.overflow)
        return err_set(err, ERR_INTERNAL, "seccomp filter: longer than %d instructions", FILTER_MAX);
    for (size_t i = 0; i < builder.jump_len; i++) {
        if (builder.jumps[i].check >= check_len)
            return err_set(err, ERR_INTERNAL, "seccomp filter: no check %u", builder.jumps[i].check);
        out->code[builder.jumps[i].at].k = (uint32_t)(places[builder.jumps[i].check] - builder.jumps[i].at - 1);
    }
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
        case BPF_ALU | BPF_AND | BPF_K: a &= insn->k; break;
        case BPF_JMP | BPF_JA: pc += insn->k; break;
        case BPF_JMP | BPF_JEQ | BPF_K: pc += a == insn->k ? insn->jt : insn->jf; break;
        case BPF_JMP | BPF_JGE | BPF_K: pc += a >= insn->k ? insn->jt : insn->jf; break;
        case BPF_JMP | BPF_JGT | BPF_K: pc += a > insn->k ? insn->jt : insn->jf; break;
        case BPF_JMP | BPF_JSET | BPF_K: pc += (a & insn->k) ? insn->jt : insn->jf; break;
        case BPF_RET | BPF_K: return insn->k;
        default: return UINT32_MAX;
        }
    }
    return UINT32_MAX;
}

int filter_load(const struct filter_program *program, struct err *err)
{
    struct sock_fprog code = { .len = (unsigned short)program->len, .filter = (struct sock_filter *)program->code };
    // SPEC_ALLOW: without it older kernels slow every filtered process down by SSBD.
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &code) < 0)
        return err_errno(err, errno, "load seccomp filter");
    return 0;
}
