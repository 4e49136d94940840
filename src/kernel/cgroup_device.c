// What v1's devices controller did, for cgroup2: a BPF program on the group that answers each open and mknod of a
// device.
//
// The last rule that fits decides, so the program looks at them from the last one on and ends with the first that fits.
// A rule that allows must cover the whole access, one that forbids any part of it. Without a fitting rule the access is
// allowed, as in a v1 group that was never written to.
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <sys/syscall.h>

#include "cgroup_private.h"

#define RULES_MAX 256
#define RULE_INSNS 8
#define LOG_SIZE 4096

enum {
    R_RESULT = BPF_REG_0,
    R_CONTEXT = BPF_REG_1,
    R_TYPE = BPF_REG_2,
    R_ACCESS = BPF_REG_3,
    R_MAJOR = BPF_REG_4,
    R_MINOR = BPF_REG_5
};

struct program {
    struct bpf_insn code[RULES_MAX * RULE_INSNS + 8];
    size_t len;
};

static struct bpf_insn *add(struct program *program, uint8_t code, uint8_t to, uint8_t from, int32_t value)
{
    struct bpf_insn *insn = &program->code[program->len++];
    *insn = (struct bpf_insn){ .code = code, .dst_reg = to & 0xf, .src_reg = from & 0xf, .imm = value };
    return insn;
}

static void load(struct program *program, uint8_t to, size_t offset)
{
    add(program, BPF_LDX | BPF_MEM | BPF_W, to, R_CONTEXT, 0)->off = (int16_t)offset;
}

static void answer(struct program *program, bool allow)
{
    add(program, BPF_ALU64 | BPF_MOV | BPF_K, R_RESULT, 0, allow);
    add(program, BPF_JMP | BPF_EXIT, 0, 0, 0);
}

static int32_t access_bits(const char *access)
{
    return (strchr(access, 'm') ? BPF_DEVCG_ACC_MKNOD : 0) | (strchr(access, 'r') ? BPF_DEVCG_ACC_READ : 0) |
           (strchr(access, 'w') ? BPF_DEVCG_ACC_WRITE : 0);
}

// False when it fits always: what would follow is never reached, and the kernel refuses code that is not.
static bool add_rule(struct program *program, const struct cgroup_device_rule *rule)
{
    size_t begin = program->len;
    int32_t bits = access_bits(rule->access);
    if (rule->type != 'a')
        add(program, BPF_JMP | BPF_JNE | BPF_K, R_TYPE, 0,
            rule->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
    if (bits != (BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE)) {
        add(program, BPF_ALU64 | BPF_MOV | BPF_X, R_CONTEXT, R_ACCESS, 0); // all is read out of it: a spare register
        add(program, BPF_ALU64 | BPF_AND | BPF_K, R_CONTEXT, 0, bits);
        if (rule->allow)
            add(program, BPF_JMP | BPF_JNE | BPF_X, R_CONTEXT, R_ACCESS, 0);
        else
            add(program, BPF_JMP | BPF_JEQ | BPF_K, R_CONTEXT, 0, 0);
    }
    if (rule->major >= 0)
        add(program, BPF_JMP | BPF_JNE | BPF_K, R_MAJOR, 0, (int32_t)rule->major);
    if (rule->minor >= 0)
        add(program, BPF_JMP | BPF_JNE | BPF_K, R_MINOR, 0, (int32_t)rule->minor);
    size_t end = program->len;
    answer(program, rule->allow);
    for (size_t i = begin; i < end; i++) {
        if (BPF_CLASS(program->code[i].code) == BPF_JMP)
            program->code[i].off = (int16_t)(program->len - i - 1);
    }
    return end > begin;
}

static void compile(struct program *program, const struct cgroup_device_rule *rules, size_t len)
{
    load(program, R_TYPE, offsetof(struct bpf_cgroup_dev_ctx, access_type));
    add(program, BPF_ALU64 | BPF_MOV | BPF_X, R_ACCESS, R_TYPE, 0);
    add(program, BPF_ALU64 | BPF_AND | BPF_K, R_TYPE, 0, 0xffff);
    add(program, BPF_ALU64 | BPF_RSH | BPF_K, R_ACCESS, 0, 16);
    load(program, R_MAJOR, offsetof(struct bpf_cgroup_dev_ctx, major));
    load(program, R_MINOR, offsetof(struct bpf_cgroup_dev_ctx, minor));
    for (size_t i = len; i-- > 0;) {
        if (!add_rule(program, &rules[i]))
            return;
    }
    answer(program, true);
}

static int load_program(const struct program *program)
{
    static const char license[] = "Apache-2.0";
    union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
                            .insns = (uint64_t)(uintptr_t)program->code,
                            .insn_cnt = (uint32_t)program->len,
                            .license = (uint64_t)(uintptr_t)license };
    return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
}

int cgroup_device_limit(int dir_fd, const struct cgroup_device_rule *rules, size_t len, bool *missing, struct err *err)
{
    if (len > RULES_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d device rules", RULES_MAX);
    struct program *program = mem_new(struct program);
    compile(program, rules, len);
    _cleanup_close_ int program_fd = load_program(program);
    int number = errno;
    free(program);
    if (program_fd < 0 && (number == ENOSYS || number == EINVAL)) {
        *missing = true; // a kernel without CONFIG_CGROUP_BPF
        return 0;
    }
    if (program_fd < 0)
        return err_errno(err, number, "load the device program");
    _cleanup_close_ int group_fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    union bpf_attr attr = { .target_fd = (uint32_t)group_fd,
                            .attach_bpf_fd = (uint32_t)program_fd,
                            .attach_type = BPF_CGROUP_DEVICE,
                            .attach_flags = BPF_F_ALLOW_MULTI };
    if (group_fd < 0 || syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof(attr)) < 0)
        return err_errno(err, errno, "attach the device program");
    return 0;
}
