// Device rules as an eBPF program: what it answers, by a little interpreter of its instructions; then on a group of this
// machine's cgroup2 tree, where the kernel asks it.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/num.h"
#include "kernel/device_program.h"

// ---- as plain code --------------------------------------------------------------------------------------------------

static bool jumps(uint8_t operation, uint64_t left, int64_t right)
{
    return operation == BPF_JNE ? left != (uint64_t)right : left == (uint64_t)right;
}

// The answer, or -1 for an instruction or a jump that a program of ours does not have.
static int64_t run(const struct device_program *program, const struct bpf_cgroup_dev_ctx *request)
{
    uint64_t reg[6] = { 0 };
    for (size_t at = 0; at < program->len; at++) {
        const struct bpf_insn *insn = &program->code[at];
        uint64_t *to = &reg[insn->dst_reg];
        switch (insn->code) {
        case BPF_LDX | BPF_MEM | BPF_W: *to = *(const uint32_t *)((const char *)request + insn->off); break;
        case BPF_ALU64 | BPF_MOV | BPF_X: *to = reg[insn->src_reg]; break;
        case BPF_ALU64 | BPF_MOV | BPF_K: *to = (uint64_t)(int64_t)insn->imm; break;
        case BPF_ALU64 | BPF_AND | BPF_K: *to &= (uint64_t)(int64_t)insn->imm; break;
        case BPF_ALU64 | BPF_RSH | BPF_K: *to >>= insn->imm; break;
        case BPF_JMP | BPF_JNE | BPF_K:
        case BPF_JMP | BPF_JEQ | BPF_K: at += jumps(BPF_OP(insn->code), *to, insn->imm) ? (size_t)insn->off : 0; break;
        case BPF_JMP | BPF_EXIT: return (int64_t)reg[0];
        default: return -1;
        }
    }
    return -1;
}

static int64_t ask(const struct device_program *program, const char *request)
{
    char type, access[4] = "";
    unsigned major, minor, bits = 0;
    assert_int_equal(sscanf(request, "%c %u:%u %3s", &type, &major, &minor, access), 4);
    for (const char *c = access; *c; c++)
        bits |= *c == 'm' ? BPF_DEVCG_ACC_MKNOD : *c == 'r' ? BPF_DEVCG_ACC_READ : BPF_DEVCG_ACC_WRITE;
    const struct bpf_cgroup_dev_ctx context = {
        .access_type = bits << 16 | (type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR), .major = major, .minor = minor
    };
    return run(program, &context);
}

#define RULES_MAX 5

struct example {
    struct cgroup_device_rule rules[RULES_MAX];
    size_t len;
    const char *allowed[4], *denied[4];
};

static const struct example examples[] = {
    { { { 0 } }, 0, { "c 1:3 rwm", "b 8:0 rw" }, { NULL } },
    { { { false, 'a', -1, -1, "rwm" } }, 1, { NULL }, { "c 1:3 r", "b 8:0 m" } },
    { { { true, 'c', 1, 3, "rwm" }, { false, 'a', -1, -1, "rwm" } }, 2, { NULL }, { "c 1:3 r" } },
    { { { false, 'a', -1, -1, "rwm" }, { true, 'c', 1, 3, "rwm" } }, 2,
      { "c 1:3 r", "c 1:3 rw", "c 1:3 m" }, { "b 1:3 r", "c 1:4 r", "c 2:3 r" } },
    { { { false, 'a', -1, -1, "rwm" }, { true, 'c', -1, -1, "m" }, { true, 'c', 136, -1, "rw" } }, 3,
      { "c 5:5 m", "c 136:9 rw", "c 136:9 w" }, { "c 5:5 r", "b 5:5 m", "c 136:9 rwm" } },
    // Two rules of one device are one exception; what is denied again is taken back.
    { { { false, 'a', -1, -1, "rwm" }, { true, 'b', 8, 0, "r" }, { true, 'b', 8, 0, "w" } }, 3, { "b 8:0 rw" }, { "b 8:0 m" } },
    { { { false, 'a', -1, -1, "rwm" }, { true, 'b', 8, 0, "rwm" }, { false, 'b', 8, 0, "w" } }, 3, { "b 8:0 rm" },
      { "b 8:0 w", "b 8:0 rw" } },
    { { { false, 'a', -1, -1, "rwm" }, { true, 'b', 8, 0, "r" }, { true, 'c', 1, 3, "r" }, { false, 'b', 8, 0, "rwm" } }, 4,
      { "c 1:3 r" }, { "b 8:0 r" } },
    // Everything is allowed, with exceptions.
    { { { true, 'a', -1, -1, "rwm" }, { false, 'c', 1, 11, "w" }, { false, 'b', -1, -1, "rwm" } }, 3,
      { "c 1:11 r", "c 1:3 rwm" }, { "c 1:11 w", "c 1:11 rw", "b 9:9 r" } },
};

static void test_answers(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
        const struct example *example = &examples[i];
        struct device_program program;
        struct err err = { 0 };
        if (device_program_compile(example->rules, example->len, &program, &err) < 0)
            fail_msg("%zu: %s", i, err.message);
        for (size_t k = 0; k < 4; k++) {
            if (example->allowed[k] && ask(&program, example->allowed[k]) != 1)
                fail_msg("example %zu denies %s", i, example->allowed[k]);
            if (example->denied[k] && ask(&program, example->denied[k]) != 0)
                fail_msg("example %zu allows %s", i, example->denied[k]);
        }
    }
}

static void test_bad_rules(void **state)
{
    static const struct cgroup_device_rule bad[] = {
        { true, 'x', 1, 3, "rwm" }, { true, 'c', -2, 3, "rwm" }, { true, 'c', 1, INT64_C(1) << 31, "rwm" },
        { true, 'c', 1, 3, "" },    { true, 'c', 1, 3, "rx" },
    };
    struct device_program program;
    struct err err = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const struct cgroup_device_rule rules[] = { { .allow = false, .type = 'a' }, bad[i] };
        assert_int_equal(device_program_compile(rules, ARRAY_LEN(rules), &program, &err), -1);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    }
    static struct cgroup_device_rule many[DEVICE_RULES_MAX + 2] = { { .allow = false, .type = 'a' } };
    for (int i = 1; i < (int)ARRAY_LEN(many); i++)
        many[i] = (struct cgroup_device_rule){ true, 'c', 7, i, "r" };
    assert_int_equal(device_program_compile(many, ARRAY_LEN(many) - 1, &program, &err), 0);
    assert_true(program.len <= DEVICE_PROGRAM_MAX);
    assert_int_equal(ask(&program, "c 7:256 r"), 1);
    assert_int_equal(device_program_compile(many, ARRAY_LEN(many), &program, &err), -1);
    assert_int_equal(err.class, ERR_RESOURCE_EXHAUSTED);
}

// ---- in the kernel --------------------------------------------------------------------------------------------------

struct group {
    struct cgroup_layout layout; // of the cgroup2 tree alone
    char path[48], dir[64];
    struct cgroup *cgroup;
    struct err err;
};

static int group_up(void **state)
{
    struct group *group = mem_new(struct group);
    struct cgroup_layout all;
    char digits[9];
    *state = group;
    cgroup_layout_probe(&all);
    group->layout.version = CGROUP_V2;
    for (size_t i = 0; i < all.len && !group->layout.len; i++)
        if (all.hierarchies[i].v2)
            group->layout.hierarchies[group->layout.len++] = all.hierarchies[i];
    random_hex(digits, 8);
    snprintf(group->path, sizeof(group->path), "berth-test-%s", digits);
    snprintf(group->dir, sizeof(group->dir), "/tmp/berth-devices-XXXXXX");
    assert_non_null(mkdtemp(group->dir));
    if (geteuid() == 0 && group->layout.len && cgroup_create(&group->layout, group->path, &group->cgroup, &group->err) < 0)
        fail_msg("%s", group->err.message);
    return 0;
}

static int group_down(void **state)
{
    struct group *group = *state;
    cgroup_free(group->cgroup);
    if (group->layout.len && cgroup_remove(&group->layout, group->path, 2 * NS_PER_S, &group->err) < 0)
        fail_msg("%s", group->err.message);
    assert_int_equal(file_remove_tree(AT_FDCWD, group->dir, &group->err), 0);
    free(group);
    return 0;
}

static int try_open(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    int result = fd < 0 ? errno : 0;
    fd_close(fd);
    return result;
}

static int try_mknod(const struct group *group, mode_t type, unsigned major, unsigned minor)
{
    char path[96];
    snprintf(path, sizeof(path), "%s/node", group->dir);
    int result = mknod(path, type | 0600, makedev(major, minor)) < 0 ? errno : 0;
    unlink(path);
    return result;
}

// What a member of the group gets, as a number of seven decimal digits: 0 worked, 1 EPERM, 2 another error.
static unsigned try_all(struct group *group)
{
    const int results[] = { try_open("/dev/null", O_RDWR),      try_open("/dev/zero", O_RDONLY),
                            try_open("/dev/zero", O_WRONLY),    try_open("/dev/full", O_RDONLY),
                            try_mknod(group, S_IFCHR, 1, 3),    try_mknod(group, S_IFCHR, 1, 7),
                            try_mknod(group, S_IFBLK, 7, 0) };
    unsigned digits = 0;
    for (size_t i = 0; i < ARRAY_LEN(results); i++)
        digits = digits * 10 + (results[i] == 0 ? 0 : results[i] == EPERM ? 1 : 2);
    return digits;
}

static unsigned inside(struct group *group)
{
    int fds[2];
    unsigned digits = 0;
    assert_int_equal(fd_pipe(fds, &group->err), 0);
    pid_t pid = fork();
    if (pid == 0) {
        bool joined = cgroup_join(group->cgroup, getpid(), NULL) == 0;
        digits = joined ? try_all(group) : 9999999;
        _exit(fd_write_full(fds[1], (const char *)&digits, sizeof(digits), NULL) < 0);
    }
    assert_int_equal(fd_read_full(fds[0], (char *)&digits, sizeof(digits), NULL), sizeof(digits));
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    return digits;
}

static void limit(struct group *group, const struct cgroup_device_rule *rules, size_t len)
{
    const struct cgroup_limits limits = { .devices = rules, .device_len = len };
    unsigned missing;
    if (cgroup_limit(group->cgroup, &limits, &missing, &group->err) < 0)
        fail_msg("%s", group->err.message);
    assert_int_equal(missing, 0);
}

static void test_the_kernel_asks_it(void **state)
{
    static const struct cgroup_device_rule some[] = { { .allow = false, .type = 'a' },
                                                      { true, 'c', -1, -1, "m" },
                                                      { true, 'c', 1, 3, "rwm" },
                                                      { true, 'c', 1, 5, "r" } };
    static const struct cgroup_device_rule none[] = { { .allow = false, .type = 'a' } }, all[] = { { .allow = true, .type = 'a' } };
    struct group *group = *state;
    if (!group->cgroup) {
        print_message("skipped: needs root and a cgroup2 tree\n");
        skip();
    }
    unsigned before = inside(group);
    limit(group, some, ARRAY_LEN(some));
    assert_int_equal(inside(group), 11001); // 0011001
    limit(group, none, ARRAY_LEN(none));
    assert_int_equal(inside(group), 1111111);
    limit(group, all, ARRAY_LEN(all)); // in the place of the others, not beside them
    assert_int_equal(inside(group), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_bad_rules),
        cmocka_unit_test_setup_teardown(test_the_kernel_asks_it, group_up, group_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
