#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "kernel/device_program.h"

// ---- rules ----------------------------------------------------------------------------------------------------------

#define ALL_ACCESS (BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE)

struct exception {
    int32_t type, access;
    int64_t major, minor; // -1: any
};

struct rule_set {
    bool allow; // what has no exception
    struct exception exceptions[DEVICE_RULES_MAX];
    size_t len;
};

static bool parse_access(const char *text, int32_t *out)
{
    *out = 0;
    for (; *text; text++) {
        int32_t bit = *text == 'r' ? BPF_DEVCG_ACC_READ : *text == 'w' ? BPF_DEVCG_ACC_WRITE : *text == 'm' ? BPF_DEVCG_ACC_MKNOD : 0;
        if (!bit)
            return false;
        *out |= bit;
    }
    return *out != 0;
}

static bool number_fits(int64_t number)
{
    return number >= -1 && number <= INT32_MAX; // comparisons take a signed 32-bit number
}

static int parse_rule(const struct cgroup_device_rule *rule, struct exception *out, struct err *err)
{
    *out = (struct exception){ .type = rule->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR,
                               .major = rule->major, .minor = rule->minor };
    if ((rule->type != 'b' && rule->type != 'c') || !parse_access(rule->access, &out->access) ||
        !number_fits(rule->major) || !number_fits(rule->minor))
        return err_set(err, ERR_INVALID_ARGUMENT, "device rule \"%c %lld:%lld %.3s\": bad type, number or access", rule->type,
                       (long long)rule->major, (long long)rule->minor, rule->access);
    return 0;
}

static struct exception *same_device(struct rule_set *set, const struct exception *wanted)
{
    for (size_t i = 0; i < set->len; i++) {
        struct exception *e = &set->exceptions[i];
        if (e->type == wanted->type && e->major == wanted->major && e->minor == wanted->minor)
            return e;
    }
    return NULL;
}

static int add_exception(struct rule_set *set, const struct exception *fresh, struct err *err)
{
    struct exception *known = same_device(set, fresh);
    if (known) {
        known->access |= fresh->access;
        return 0;
    }
    if (set->len == DEVICE_RULES_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d device rules", DEVICE_RULES_MAX);
    set->exceptions[set->len++] = *fresh;
    return 0;
}

static void take_back(struct rule_set *set, const struct exception *gone)
{
    struct exception *known = same_device(set, gone);
    if (!known)
        return;
    known->access &= ~gone->access;
    if (!known->access)
        *known = set->exceptions[--set->len];
}

static int apply(struct rule_set *set, const struct cgroup_device_rule *rule, struct err *err)
{
    struct exception exception;
    if (rule->type == 'a') {
        set->allow = rule->allow;
        set->len = 0;
        return 0;
    }
    if (parse_rule(rule, &exception, err) < 0)
        return -1;
    if (rule->allow != set->allow)
        return add_exception(set, &exception, err);
    take_back(set, &exception);
    return 0;
}

// ---- the program ----------------------------------------------------------------------------------------------------
//
// Registers: r2 type, r3 access, r4 major, r5 minor of the request; r1 scratch, once the context has been read; r0 the answer.

static struct bpf_insn *emit(struct device_program *program, struct bpf_insn insn)
{
    program->code[program->len] = insn;
    return &program->code[program->len++];
}

static void emit_load(struct device_program *program, uint8_t to, size_t offset)
{
    emit(program, (struct bpf_insn){ .code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = to & 15, .src_reg = BPF_REG_1,
                                     .off = (int16_t)offset });
}

static void emit_alu(struct device_program *program, uint8_t operation, uint8_t to, int32_t value)
{
    emit(program, (struct bpf_insn){ .code = (uint8_t)(BPF_ALU64 | BPF_K | operation), .dst_reg = to & 15, .imm = value });
}

static void emit_move(struct device_program *program, uint8_t to, uint8_t from)
{
    emit(program, (struct bpf_insn){ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = to & 15, .src_reg = from & 15 });
}

// To the next exception, whose place is not known yet.
static void emit_skip(struct device_program *program, uint8_t condition, uint8_t reg, int64_t value)
{
    emit(program, (struct bpf_insn){ .code = (uint8_t)(BPF_JMP | BPF_K | condition), .dst_reg = reg & 15, .imm = (int32_t)value });
}

static void emit_answer(struct device_program *program, bool allow)
{
    emit_alu(program, BPF_MOV, BPF_REG_0, allow);
    emit(program, (struct bpf_insn){ .code = BPF_JMP | BPF_EXIT });
}

static void emit_head(struct device_program *program)
{
    emit_load(program, BPF_REG_2, offsetof(struct bpf_cgroup_dev_ctx, access_type));
    emit_load(program, BPF_REG_4, offsetof(struct bpf_cgroup_dev_ctx, major));
    emit_load(program, BPF_REG_5, offsetof(struct bpf_cgroup_dev_ctx, minor));
    emit_move(program, BPF_REG_3, BPF_REG_2);
    emit_alu(program, BPF_RSH, BPF_REG_3, 16);
    emit_alu(program, BPF_AND, BPF_REG_2, 0xffff);
}

static void emit_exception(struct device_program *program, const struct exception *exception, bool allow)
{
    size_t first = program->len;
    emit_skip(program, BPF_JNE, BPF_REG_2, exception->type);
    if (exception->access != ALL_ACCESS) {
        emit_move(program, BPF_REG_1, BPF_REG_3);
        emit_alu(program, BPF_AND, BPF_REG_1, allow ? ALL_ACCESS & ~exception->access : exception->access);
        emit_skip(program, allow ? BPF_JNE : BPF_JEQ, BPF_REG_1, 0);
    }
    if (exception->major >= 0)
        emit_skip(program, BPF_JNE, BPF_REG_4, exception->major);
    if (exception->minor >= 0)
        emit_skip(program, BPF_JNE, BPF_REG_5, exception->minor);
    emit_answer(program, allow);
    for (size_t i = first; i < program->len - 2; i++)
        if (BPF_CLASS(program->code[i].code) == BPF_JMP)
            program->code[i].off = (int16_t)(program->len - i - 1);
}

int device_program_compile(const struct cgroup_device_rule *rules, size_t rule_len, struct device_program *out,
                           struct err *err)
{
    struct rule_set set = { .allow = true };
    for (size_t i = 0; i < rule_len; i++)
        if (apply(&set, &rules[i], err) < 0)
            return -1;
    out->len = 0;
    emit_head(out);
    for (size_t i = 0; i < set.len; i++)
        emit_exception(out, &set.exceptions[i], !set.allow);
    emit_answer(out, set.allow);
    return 0;
}

// ---- the kernel -----------------------------------------------------------------------------------------------------

static int bpf(int command, union bpf_attr *attr)
{
    return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static int load(const struct device_program *program, struct err *err)
{
    union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insns = (uintptr_t)program->code,
                            .insn_cnt = (uint32_t)program->len, .license = (uintptr_t) "Apache-2.0" };
    int fd = bpf(BPF_PROG_LOAD, &attr);
    return fd >= 0 ? fd : err_errno(err, errno, "load device rules");
}

// The program that is on the group already: *out is its descriptor, or -1.
static int find_present(int dir_fd, int *out, struct err *err)
{
    uint32_t ids[2] = { 0 };
    union bpf_attr attr = { .query = { .target_fd = (uint32_t)dir_fd, .attach_type = BPF_CGROUP_DEVICE,
                                       .prog_ids = (uintptr_t)ids, .prog_cnt = ARRAY_LEN(ids) } };
    *out = -1;
    if (bpf(BPF_PROG_QUERY, &attr) < 0)
        return err_errno(err, errno, "look for device rules");
    if (attr.query.prog_cnt == 0)
        return 0;
    if (attr.query.prog_cnt > 1)
        return err_set(err, ERR_CONFLICT, "somebody else has put device rules on the group");
    union bpf_attr get = { .prog_id = ids[0] };
    *out = bpf(BPF_PROG_GET_FD_BY_ID, &get);
    return *out < 0 ? err_errno(err, errno, "open device rules") : 0;
}

int device_program_attach(const struct device_program *program, int dir_fd, struct err *err)
{
    _cleanup_close_ int dir = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int fd = -1, present = -1;
    if (dir < 0)
        return err_errno(err, errno, "open cgroup");
    if ((fd = load(program, err)) < 0 || find_present(dir, &present, err) < 0)
        return -1;
    union bpf_attr attr = { .target_fd = (uint32_t)dir, .attach_bpf_fd = (uint32_t)fd, .attach_type = BPF_CGROUP_DEVICE,
                            .attach_flags = BPF_F_ALLOW_MULTI };
    if (present >= 0) {
        attr.attach_flags |= BPF_F_REPLACE;
        attr.replace_bpf_fd = (uint32_t)present;
    }
    return bpf(BPF_PROG_ATTACH, &attr) == 0 ? 0 : err_errno(err, errno, "attach device rules");
}
