// Our filters against libseccomp: the same numbers for the names, and the same decisions for every call.
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "kernel/caps.h"
#include "sandbox/seccomp.h"
#include "sandbox/seccomp_rules.h"

#define X32_BIT 0x40000000

// ---- the oracle -----------------------------------------------------------------------------------------------------

// 0: the library is too old for it.
static uint32_t token_of(const struct syscall_arch *arch)
{
    static const struct {
        const char *name;
        uint32_t token;
    } tokens[] = {
        { "SCMP_ARCH_X86_64", SCMP_ARCH_X86_64 },       { "SCMP_ARCH_X86", SCMP_ARCH_X86 },
        { "SCMP_ARCH_X32", SCMP_ARCH_X32 },             { "SCMP_ARCH_ARM", SCMP_ARCH_ARM },
        { "SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64 },     { "SCMP_ARCH_MIPS", SCMP_ARCH_MIPS },
        { "SCMP_ARCH_MIPSEL", SCMP_ARCH_MIPSEL },       { "SCMP_ARCH_MIPS64", SCMP_ARCH_MIPS64 },
        { "SCMP_ARCH_MIPSEL64", SCMP_ARCH_MIPSEL64 },   { "SCMP_ARCH_MIPS64N32", SCMP_ARCH_MIPS64N32 },
        { "SCMP_ARCH_PPC", SCMP_ARCH_PPC },             { "SCMP_ARCH_MIPSEL64N32", SCMP_ARCH_MIPSEL64N32 },
        { "SCMP_ARCH_PPC64", SCMP_ARCH_PPC64 },         { "SCMP_ARCH_PPC64LE", SCMP_ARCH_PPC64LE },
        { "SCMP_ARCH_RISCV64", SCMP_ARCH_RISCV64 },     { "SCMP_ARCH_S390", SCMP_ARCH_S390 },
        { "SCMP_ARCH_S390X", SCMP_ARCH_S390X },
#ifdef SCMP_ARCH_LOONGARCH64
        { "SCMP_ARCH_LOONGARCH64", SCMP_ARCH_LOONGARCH64 },
#endif
    };
    for (size_t i = 0; i < ARRAY_LEN(tokens); i++)
        if (str_eq(tokens[i].name, arch->name))
            return tokens[i].token;
    return 0;
}

static uint32_t action_of(uint32_t action)
{
    switch (action & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ERRNO: return SCMP_ACT_ERRNO(action & 0xffff);
    case SECCOMP_RET_TRACE: return SCMP_ACT_TRACE(action & 0xffff);
    default: return action; // the library's words are the kernel's
    }
}

static enum scmp_compare compare_of(uint8_t compare)
{
    static const enum scmp_compare words[] = { [FILTER_NE] = SCMP_CMP_NE, [FILTER_LT] = SCMP_CMP_LT, [FILTER_LE] = SCMP_CMP_LE,
                                               [FILTER_EQ] = SCMP_CMP_EQ, [FILTER_GE] = SCMP_CMP_GE, [FILTER_GT] = SCMP_CMP_GT,
                                               [FILTER_MASKED_EQ] = SCMP_CMP_MASKED_EQ };
    return words[compare];
}

static void add_rule(scmp_filter_ctx context, const struct seccomp_rule *rule)
{
    int native = seccomp_syscall_resolve_name(rule->row->name);
    struct scmp_arg_cmp args[FILTER_CONDITIONS_MAX];
    if (native == __NR_SCMP_ERROR)
        return; // newer than the library
    for (size_t i = 0; i < rule->match.len; i++) {
        const struct filter_condition *condition = &rule->match.conditions[i];
        bool masked = condition->compare == FILTER_MASKED_EQ;
        args[i] = (struct scmp_arg_cmp){ condition->arg, compare_of(condition->compare),
                                         masked ? condition->mask : condition->value, masked ? condition->value : 0 };
    }
    int result = seccomp_rule_add_array(context, action_of(rule->match.action), native, (unsigned)rule->match.len, args);
    if (result < 0)
        fail_msg("libseccomp: %s: %d", rule->row->name, result);
}

static bool is_action(const struct seccomp_rules *rules, uint32_t action)
{
    bool found = action == rules->default_action;
    for (size_t i = 0; i < rules->len; i++)
        found |= action == rules->rules[i].match.action;
    return found;
}

// What the library makes for a machine of the other byte order; but some actions it leaves in ours.
static void swap_bytes(struct filter_program *program, const struct seccomp_rules *rules)
{
    for (size_t i = 0; i < program->len; i++) {
        struct sock_filter *insn = &program->code[i];
        insn->code = __builtin_bswap16(insn->code);
        if (BPF_CLASS(insn->code) != BPF_RET || !is_action(rules, insn->k))
            insn->k = __builtin_bswap32(insn->k);
    }
}

static void oracle(const struct seccomp_rules *rules, struct filter_program *out)
{
    scmp_filter_ctx context = seccomp_init(action_of(rules->default_action));
    assert_non_null(context);
    assert_int_equal(seccomp_arch_remove(context, SCMP_ARCH_X86_64), 0);
    for (size_t i = 0; i < rules->arch_len; i++)
        assert_int_equal(seccomp_arch_add(context, token_of(rules->archs[i])), 0);
    for (size_t i = 0; i < rules->len; i++)
        if (rules->rules[i].match.action != rules->default_action)
            add_rule(context, &rules->rules[i]);
    int fd = memfd_create("bpf", MFD_CLOEXEC);
    assert_int_equal(seccomp_export_bpf(context, fd), 0);
    off_t size = lseek(fd, 0, SEEK_END);
    assert_true(size > 0 && (size_t)size <= sizeof(out->code));
    assert_int_equal(pread(fd, out->code, (size_t)size, 0), size);
    out->len = (size_t)size / sizeof(out->code[0]);
    if (rules->archs[0]->big_endian)
        swap_bytes(out, rules);
    close(fd);
    seccomp_release(context);
}

// ---- calls ----------------------------------------------------------------------------------------------------------

static uint32_t call(const struct filter_program *program, const struct syscall_arch *arch, uint32_t number,
                     const uint64_t args[6])
{
    struct seccomp_data data = { .nr = (int)number, .arch = arch->audit_arch };
    for (int i = 0; i < 6; i++)
        data.args[i] = arch->big_endian ? args[i] >> 32 | args[i] << 32 : args[i];
    return filter_run(program, &data);
}

static int64_t newest_of(const struct seccomp_rules *rules, const struct syscall_arch *arch)
{
    int64_t newest = -1;
    for (size_t i = 0; i < rules->len; i++) {
        const struct syscall_row *row = rules->rules[i].row;
        newest = MAX_OF(newest, syscall_number(arch, row));
        if (row->behind)
            newest = MAX_OF(newest, (int64_t)(row->behind < SYSCALL_IPC(0) ? arch->socketcall : arch->ipc));
    }
    return newest;
}

struct comparison {
    const struct seccomp_rules *rules;
    const struct filter_program *ours, *library;
    size_t calls; // compared
};

static void compare_call(struct comparison *work, const struct syscall_arch *arch, int64_t newest, uint32_t number,
                         const uint64_t args[6])
{
    bool stub = work->rules->newer_is_enosys && newest >= 0;
    bool setup = stub && number == 0 && (arch->column == SYSCALL_S390 || arch->column == SYSCALL_S390X);
    uint32_t want = setup || (stub && number > newest) ? FILTER_ERRNO(ENOSYS) : call(work->library, arch, number, args);
    uint32_t got = call(work->ours, arch, number, args);
    if (want != got)
        fail_msg("call %u(%#llx, %#llx, %#llx) of %s: %#x, libseccomp says %#x", number, (unsigned long long)args[0],
                 (unsigned long long)args[1], (unsigned long long)args[2], arch->name, got, want);
    work->calls++;
}

// A name that only we know has no rule in the library.
static bool known(const struct syscall_arch *arch, uint32_t number)
{
    char *name = seccomp_syscall_resolve_num_arch(token_of(arch), (int)number);
    bool found = name && seccomp_syscall_resolve_name(name) != __NR_SCMP_ERROR;
    free(name);
    return found;
}

static void compare_all(struct comparison *work, const uint64_t (*args)[6], size_t arg_len)
{
    for (size_t i = 0; i < work->rules->arch_len; i++) {
        const struct syscall_arch *arch = work->rules->archs[i];
        int64_t newest = newest_of(work->rules, arch);
        for (uint32_t number = arch->base; number < arch->base + 480; number++) {
            if (!known(arch, number) && (int64_t)number <= newest)
                continue;
            for (size_t k = 0; k < arg_len; k++)
                compare_call(work, arch, newest, number, args[k]);
        }
    }
}

static size_t compare_rules(const struct seccomp_rules *rules, const uint64_t (*args)[6], size_t arg_len)
{
    static struct filter_program ours, library;
    struct comparison work = { rules, &ours, &library, 0 };
    struct err err = { 0 };
    if (seccomp_rules_compile(rules, &ours, &err) < 0)
        fail_msg("%s", err.message);
    oracle(rules, &library);
    compare_all(&work, args, arg_len);
    return work.calls;
}

// ---- numbers --------------------------------------------------------------------------------------------------------

static void test_numbers(void **state)
{
    size_t arch_len, same = 0, newer = 0;
    const struct syscall_arch *archs = syscall_archs(&arch_len);
    for (size_t i = 0; i < arch_len; i++) {
        for (size_t k = 0; token_of(&archs[i]) && k < syscall_row_len; k++) {
            const struct syscall_row *row = &syscall_rows[k];
            int theirs = seccomp_syscall_resolve_name_arch(token_of(&archs[i]), row->name);
            int64_t ours = syscall_number(&archs[i], row);
            if (theirs == __NR_SCMP_ERROR || (theirs < 0 && ours >= (int64_t)archs[i].base + 424))
                newer++; // than the library
            else if (theirs < 0 && row->behind && (row->behind < SYSCALL_IPC(0) ? archs[i].socketcall : archs[i].ipc) > 0)
                assert_int_equal(-theirs % 100, row->behind % 100); // the library's number of what stands behind
            else if (theirs != ours && !(theirs < 0 && ours < 0))
                fail_msg("%s on %s: %lld, libseccomp says %d", row->name, archs[i].name, (long long)ours, theirs);
            else
                same++;
        }
    }
    print_message("%zu numbers are libseccomp's, %zu are newer than it\n", same, newer);
    assert_true(same > 5000 && newer < same / 5);
}

static void test_find(void **state)
{
    for (size_t i = 0; i < syscall_row_len; i++) {
        assert_ptr_equal(syscall_find(slice_of(syscall_rows[i].name)), &syscall_rows[i]);
        assert_true(i == 0 || strcmp(syscall_rows[i - 1].name, syscall_rows[i].name) < 0);
    }
    assert_null(syscall_find(slice_of("")));
    assert_null(syscall_find(slice_of("rea")));
    assert_null(syscall_find(slice_of("readx")));
    assert_null(syscall_find((struct slice){ "read\0x", 6 }));
    assert_string_equal(syscall_arch_native()->name, "SCMP_ARCH_X86_64");
}

// ---- Docker's default -----------------------------------------------------------------------------------------------

static const uint64_t arguments[][6] = {
    { 0 }, { 1 }, { 8 }, { 11 }, { 12 }, { 13 }, { 16 }, { 19 }, { 20 }, { 23 }, { 34 }, { 38 }, { 40 }, { 45 }, { 46 }, { 0x11 },
    { 0x1200011 }, { 0x10000000 }, { 0x20000000 }, { 0x00020000 }, { 0x20008 }, { 0x02000000 }, { 0x7e020000 }, { 0xffffffff },
    { 0, 0x10000000 }, { 0, 0x7e020000 },
};

static void add(struct seccomp_rules *rules, const char *name, struct filter_condition condition, uint32_t action)
{
    struct err err = { 0 };
    struct filter_rule match = { .conditions = { condition }, .len = 1, .action = action };
    if (condition.arg > 5)
        match.len = 0;
    assert_int_equal(seccomp_rules_add(rules, syscall_find(slice_of(name)), &match, &err), 0);
}

#define ALWAYS ((struct filter_condition){ .arg = 6 })
#define ARG0(compare_word, number) ((struct filter_condition){ .compare = (compare_word), .value = (number) })

// The profile as its rules read, for the library.
static void write_default(struct seccomp_rules *rules, uint64_t caps)
{
    static const int families[] = { 13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45 };
    static const uint32_t personalities[] = { 0, 8, 0x20000, 0x20008, 0xffffffff };
    size_t len;
    const struct seccomp_call *calls = seccomp_calls(&len);
    bool admin = caps & (UINT64_C(1) << CAP_SYS_ADMIN);
    for (size_t i = 0; i < len; i++) {
        bool granted = calls[i].caps == 0 || (calls[i].caps & caps);
        if (calls[i].rule == SECCOMP_SOCKET) {
            add(rules, "socket", ARG0(FILTER_LT, 12), SECCOMP_RET_ALLOW);
            for (size_t k = 0; k < ARRAY_LEN(families); k++)
                add(rules, "socket", ARG0(FILTER_EQ, (uint64_t)families[k]), SECCOMP_RET_ALLOW);
        } else if (calls[i].rule == SECCOMP_PERSONALITY) {
            for (size_t k = 0; k < ARRAY_LEN(personalities); k++)
                add(rules, "personality", ARG0(FILTER_EQ, personalities[k]), SECCOMP_RET_ALLOW);
        } else if (calls[i].rule == SECCOMP_CLONE && !admin) {
            struct filter_condition none = { .compare = FILTER_MASKED_EQ, .mask = 0x7e020000 };
            add(rules, "clone", none, SECCOMP_RET_ALLOW);
        } else {
            uint32_t refused = calls[i].rule == SECCOMP_ENOSYS ? FILTER_ERRNO(ENOSYS) : FILTER_ERRNO(EPERM);
            add(rules, calls[i].name, ALWAYS, granted ? SECCOMP_RET_ALLOW : refused);
        }
    }
}

static void add_archs(struct seccomp_rules *rules, const char *const *names)
{
    for (; *names; names++)
        seccomp_rules_add_arch(rules, syscall_arch_find(slice_of(*names)));
}

static void test_default(void **state)
{
    static const uint64_t sets[] = { 0, UINT64_MAX, UINT64_C(1) << CAP_SYS_ADMIN, UINT64_C(1) << CAP_BPF, UINT64_C(1) << CAP_SYS_PTRACE,
                                     UINT64_C(1) << CAP_SYS_TIME, UINT64_C(1) << CAP_SYS_CHROOT };
    static const char *const archs[] = { "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", NULL };
    static struct filter_program ours, library;
    size_t calls = 0;
    for (size_t i = 0; i <= ARRAY_LEN(sets); i++) {
        uint64_t caps = i < ARRAY_LEN(sets) ? sets[i] : caps_docker_default();
        _cleanup_(seccomp_rules_done) struct seccomp_rules rules = { .default_action = FILTER_ERRNO(EPERM), .newer_is_enosys = true };
        struct err err = { 0 };
        add_archs(&rules, archs);
        write_default(&rules, caps);
        assert_int_equal(seccomp_default_profile(caps, &ours, &err), 0);
        oracle(&rules, &library);
        struct comparison work = { &rules, &ours, &library, 0 };
        compare_all(&work, arguments, ARRAY_LEN(arguments));
        calls += work.calls;
    }
    print_message("%zu calls, %zu instructions\n", calls, ours.len);
    assert_true(calls > 100000 && ours.len < 600);
}

// Every architecture with the companions that Docker gives it.
static void test_default_elsewhere(void **state)
{
    static const char *const sets[][4] = {
        { "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM" }, { "SCMP_ARCH_PPC64LE" }, { "SCMP_ARCH_PPC64" }, { "SCMP_ARCH_PPC" },
        { "SCMP_ARCH_RISCV64" }, { "SCMP_ARCH_S390X", "SCMP_ARCH_S390" },
        { "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32" },
        { "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64N32" }, { "SCMP_ARCH_ARM" }, { "SCMP_ARCH_X86" },
        { "SCMP_ARCH_X86_64" },
    };
    for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
        _cleanup_(seccomp_rules_done) struct seccomp_rules rules = { .default_action = FILTER_ERRNO(EPERM), .newer_is_enosys = true };
        add_archs(&rules, sets[i]);
        write_default(&rules, caps_docker_default());
        assert_true(compare_rules(&rules, arguments, ARRAY_LEN(arguments)) > 5000);
    }
}

// ---- made-up profiles -----------------------------------------------------------------------------------------------

static uint64_t seed;

static uint64_t dice(uint64_t sides)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (seed >> 33) % sides;
}

static uint64_t value(bool wide)
{
    static const uint32_t halves[] = { 0, 1, 2, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff };
    uint64_t low = halves[dice(7)], high = wide ? halves[dice(7)] : 0;
    return high << 32 | low;
}

static uint32_t any_action(void)
{
    static const uint32_t actions[] = { SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP,
                                        SECCOMP_RET_LOG, FILTER_ERRNO(5), FILTER_ERRNO(38), SECCOMP_RET_TRACE | 7 };
    return actions[dice(8)];
}

static void make_rule(struct seccomp_rules *rules, const struct syscall_row *row, bool wide, uint32_t action)
{
    struct err err = { 0 };
    struct filter_rule match = { .action = action, .len = dice(4) };
    uint8_t first = (uint8_t)dice(3);
    for (size_t i = 0; i < match.len; i++) {
        struct filter_condition *condition = &match.conditions[i];
        *condition = (struct filter_condition){ (uint8_t)(first + i), (uint8_t)dice(7), value(wide), value(wide) };
        if (condition->compare == FILTER_MASKED_EQ && (condition->mask & UINT32_MAX) == 0)
            condition->mask |= 0xf0;
    }
    assert_int_equal(seccomp_rules_add(rules, row, &match, &err), 0);
}

static bool names(const struct seccomp_rules *rules, const struct syscall_row *row, size_t before)
{
    for (size_t i = 0; i < before; i++)
        if (rules->rules[i].row == row)
            return true;
    return false;
}

static bool make_profile(struct seccomp_rules *rules)
{
    static const char *const sets[][4] = {
        { "SCMP_ARCH_X86_64" }, { "SCMP_ARCH_X86_64", "SCMP_ARCH_X86" }, { "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32" },
        { "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM" }, { "SCMP_ARCH_S390X" }, { "SCMP_ARCH_PPC64" }, { "SCMP_ARCH_MIPS64" },
        { "SCMP_ARCH_RISCV64" },
    };
    size_t set = dice(ARRAY_LEN(sets));
    *rules = (struct seccomp_rules){ .default_action = any_action(), .newer_is_enosys = dice(2) };
    add_archs(rules, sets[set]);
    // Without a rule like this the library forgets to load the number of the call on some architectures.
    add(rules, "exit_group", ALWAYS, FILTER_ERRNO(99));
    bool wide = true;
    for (size_t i = 0; i < rules->arch_len; i++)
        wide &= rules->archs[i]->wide;
    for (size_t i = dice(30); i > 0; i--) {
        const struct syscall_row *row = &syscall_rows[dice(syscall_row_len)];
        uint32_t action = any_action();
        size_t before = rules->len;
        // Several rules of one call are values of one argument: of others the library makes trees in which one rule's
        // failure hides another. Those are compared with a direct reading below.
        if (row->behind || names(rules, row, before))
            continue;
        if (dice(2))
            make_rule(rules, row, wide, action);
        for (size_t k = rules->len == before ? dice(5) : 0; k > 0; k--)
            add(rules, row->name, (struct filter_condition){ 1, FILTER_EQ, value(wide), 0 }, action);
    }
    return wide;
}

static void test_made_up(void **state)
{
    size_t calls = 0;
    seed = 20260101;
    for (int i = 0; i < 400; i++) {
        struct seccomp_rules rules;
        uint64_t args[8][6];
        bool wide = make_profile(&rules);
        for (int k = 0; k < 8; k++)
            for (int j = 0; j < 6; j++)
                args[k][j] = value(wide);
        calls += compare_rules(&rules, (const uint64_t(*)[6])args, 8);
        seccomp_rules_done(&rules);
    }
    print_message("%zu calls\n", calls);
}

// Where the library says nothing: a direct reading of the rules, for names that it does not know and mixed actions.
static bool holds(const struct filter_condition *condition, uint64_t arg)
{
    switch ((enum filter_compare)condition->compare) {
    case FILTER_NE: return arg != condition->value;
    case FILTER_LT: return arg < condition->value;
    case FILTER_LE: return arg <= condition->value;
    case FILTER_EQ: return arg == condition->value;
    case FILTER_GE: return arg >= condition->value;
    case FILTER_GT: return arg > condition->value;
    case FILTER_MASKED_EQ: return (arg & condition->mask) == (condition->value & condition->mask);
    }
    return false;
}

static uint32_t read_rules(const struct seccomp_rules *rules, const uint64_t args[6])
{
    for (size_t i = 0; i < rules->len; i++)
        if (rules->rules[i].match.len == 0 && rules->rules[i].match.action != rules->default_action)
            return rules->rules[i].match.action;
    for (size_t i = 0; i < rules->len; i++) {
        const struct filter_rule *match = &rules->rules[i].match;
        bool all = match->action != rules->default_action;
        for (size_t k = 0; k < match->len; k++)
            all &= holds(&match->conditions[k], args[match->conditions[k].arg]);
        if (all)
            return match->action;
    }
    return rules->default_action;
}

static void test_first_that_holds(void **state)
{
    static struct filter_program program;
    seed = 7;
    for (int i = 0; i < 3000; i++) {
        _cleanup_(seccomp_rules_done) struct seccomp_rules rules = { .default_action = any_action() };
        static const char *const archs[] = { "SCMP_ARCH_X86_64", NULL };
        struct err err = { 0 };
        add_archs(&rules, archs);
        for (size_t k = 1 + dice(5); k > 0; k--)
            make_rule(&rules, syscall_find(slice_of("read")), true, any_action());
        assert_int_equal(seccomp_rules_compile(&rules, &program, &err), 0);
        for (int k = 0; k < 20; k++) {
            uint64_t args[6];
            for (int j = 0; j < 6; j++)
                args[j] = value(true);
            assert_int_equal(call(&program, rules.archs[0], 0, args), read_rules(&rules, args));
        }
    }
}

// ---- edges ----------------------------------------------------------------------------------------------------------

static uint32_t decide(const struct filter_program *program, uint32_t arch, int nr)
{
    struct seccomp_data data = { .nr = nr, .arch = arch };
    return filter_run(program, &data);
}

static void test_edges(void **state)
{
    static struct filter_program program;
    struct err err = { 0 };
    assert_int_equal(seccomp_default_profile(caps_docker_default(), &program, &err), 0);
    static const struct {
        uint32_t arch;
        int nr;
        uint32_t action;
    } cases[] = {
        { AUDIT_ARCH_X86_64, 0, SECCOMP_RET_ALLOW },                     // read
        { AUDIT_ARCH_X86_64, 165, FILTER_ERRNO(EPERM) },                 // mount
        { AUDIT_ARCH_X86_64, 435, FILTER_ERRNO(ENOSYS) },                // clone3
        { AUDIT_ARCH_X86_64, 425, FILTER_ERRNO(EPERM) },                 // io_uring_setup
        { AUDIT_ARCH_X86_64, 466, SECCOMP_RET_ALLOW },                   // removexattrat
        { AUDIT_ARCH_X86_64, 467, FILTER_ERRNO(ENOSYS) },                // newer than the profile
        { AUDIT_ARCH_X86_64, 0x3fffffff, FILTER_ERRNO(ENOSYS) },
        { AUDIT_ARCH_X86_64, -1, FILTER_ERRNO(ENOSYS) },
        { AUDIT_ARCH_X86_64, X32_BIT | 0, SECCOMP_RET_ALLOW },           // read of x32
        { AUDIT_ARCH_X86_64, X32_BIT | 13, FILTER_ERRNO(EPERM) },        // x86_64's rt_sigaction, which is 512 there
        { AUDIT_ARCH_X86_64, X32_BIT | 514, SECCOMP_RET_ALLOW },         // its own ioctl
        { AUDIT_ARCH_X86_64, X32_BIT | 528, FILTER_ERRNO(EPERM) },       // its own kexec_load
        { AUDIT_ARCH_X86_64, X32_BIT | 165, FILTER_ERRNO(EPERM) },
        { AUDIT_ARCH_X86_64, X32_BIT | 548, FILTER_ERRNO(ENOSYS) },
        { AUDIT_ARCH_I386, 3, SECCOMP_RET_ALLOW },                       // read
        { AUDIT_ARCH_I386, 21, FILTER_ERRNO(EPERM) },                    // mount
        { AUDIT_ARCH_I386, 102, SECCOMP_RET_ALLOW },                     // socketcall
        { AUDIT_ARCH_I386, 435, FILTER_ERRNO(ENOSYS) },
        { AUDIT_ARCH_I386, 467, FILTER_ERRNO(ENOSYS) },
        { AUDIT_ARCH_AARCH64, 63, SECCOMP_RET_KILL_THREAD },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (decide(&program, cases[i].arch, cases[i].nr) != cases[i].action)
            fail_msg("%#x %d: %#x", cases[i].arch, cases[i].nr, decide(&program, cases[i].arch, cases[i].nr));
}

// Without x32 its numbers are foreign; a tracer's -1 is not.
static void test_without_x32(void **state)
{
    static struct filter_program program;
    static const char *const archs[] = { "SCMP_ARCH_X86_64", NULL };
    static const struct {
        uint32_t nr, with_stub, without;
    } cases[] = {
        { 0, SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW },
        { 1, FILTER_ERRNO(ENOSYS), FILTER_ERRNO(5) },
        { 0x3fffffff, FILTER_ERRNO(ENOSYS), FILTER_ERRNO(5) },
        { 0x40000000, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_KILL_THREAD },
        { 0x80000000, FILTER_ERRNO(ENOSYS), SECCOMP_RET_KILL_THREAD },
        { 0xc0000000, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_KILL_THREAD },
        { 0xfffffffe, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_KILL_THREAD },
        { 0xffffffff, FILTER_ERRNO(5), FILTER_ERRNO(5) },
    };
    for (int stub = 0; stub < 2; stub++) {
        _cleanup_(seccomp_rules_done) struct seccomp_rules rules = { .default_action = FILTER_ERRNO(5), .newer_is_enosys = stub };
        struct err err = { 0 };
        add_archs(&rules, archs);
        add(&rules, "read", ALWAYS, SECCOMP_RET_ALLOW);
        assert_int_equal(seccomp_rules_compile(&rules, &program, &err), 0);
        for (size_t i = 0; i < ARRAY_LEN(cases); i++)
            assert_int_equal(decide(&program, AUDIT_ARCH_X86_64, (int)cases[i].nr), stub ? cases[i].with_stub : cases[i].without);
    }
}

static void test_time(void **state)
{
    static struct filter_program program;
    struct err err = { 0 };
    int64_t best = INT64_MAX;
    for (int i = 0; i < 50; i++) {
        int64_t start = clock_mono_ns();
        assert_int_equal(seccomp_default_profile(caps_docker_default(), &program, &err), 0);
        best = MIN_OF(best, clock_mono_ns() - start);
    }
    print_message("default profile: %lld us, %zu instructions\n", (long long)best / 1000, program.len);
#if !defined(__SANITIZE_ADDRESS__)
    assert_true(best < NS_PER_MS);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_default),
        cmocka_unit_test(test_default_elsewhere),
        cmocka_unit_test(test_made_up),
        cmocka_unit_test(test_first_that_holds),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_without_x32),
        cmocka_unit_test(test_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
