// What a process has besides ids and limits: scheduler, io priority, personality, CPUs, labels of security modules.
#include <sched.h>
#include <sys/personality.h>

#include "base/num.h"
#include "base/slice.h"
#include "plan.h"

#ifndef SCHED_FLAG_RESET_ON_FORK
#define SCHED_FLAG_RESET_ON_FORK 0x01
#define SCHED_FLAG_RECLAIM 0x02
#define SCHED_FLAG_DL_OVERRUN 0x04
#define SCHED_FLAG_KEEP_POLICY 0x08
#define SCHED_FLAG_KEEP_PARAMS 0x10
#define SCHED_FLAG_UTIL_CLAMP_MIN 0x20
#define SCHED_FLAG_UTIL_CLAMP_MAX 0x40
#endif
#ifndef SCHED_DEADLINE
#define SCHED_DEADLINE 6
#endif

struct word {
    const char *name;
    uint32_t value;
};

static const struct word policies[] = {
    { "SCHED_OTHER", SCHED_OTHER }, { "SCHED_FIFO", SCHED_FIFO }, { "SCHED_RR", SCHED_RR },
    { "SCHED_BATCH", SCHED_BATCH }, { "SCHED_ISO", 4 },           { "SCHED_IDLE", SCHED_IDLE },
    { "SCHED_DEADLINE", SCHED_DEADLINE },
};

static const struct word scheduler_flags[] = {
    { "SCHED_FLAG_RESET_ON_FORK", SCHED_FLAG_RESET_ON_FORK }, { "SCHED_FLAG_RECLAIM", SCHED_FLAG_RECLAIM },
    { "SCHED_FLAG_DL_OVERRUN", SCHED_FLAG_DL_OVERRUN },       { "SCHED_FLAG_KEEP_POLICY", SCHED_FLAG_KEEP_POLICY },
    { "SCHED_FLAG_KEEP_PARAMS", SCHED_FLAG_KEEP_PARAMS },     { "SCHED_FLAG_UTIL_CLAMP_MIN", SCHED_FLAG_UTIL_CLAMP_MIN },
    { "SCHED_FLAG_UTIL_CLAMP_MAX", SCHED_FLAG_UTIL_CLAMP_MAX },
};

static const struct word io_classes[] = {
    { "IOPRIO_CLASS_NONE", 0 }, { "IOPRIO_CLASS_RT", 1 }, { "IOPRIO_CLASS_BE", 2 }, { "IOPRIO_CLASS_IDLE", 3 },
};

static const struct word personalities[] = { { "LINUX", PER_LINUX }, { "LINUX32", PER_LINUX32 } };

static int find(const struct word *words, size_t len, const char *name, const char *what, uint32_t *out, struct err *err)
{
    for (size_t i = 0; i < len; i++) {
        if (str_eq(words[i].name, name)) {
            *out = words[i].value;
            return 0;
        }
    }
    return err_set(err, ERR_INVALID_ARGUMENT, "%s: unknown \"%.60s\"", what, name ? name : "");
}

static int plan_scheduler(struct sandbox_plan *plan, const struct oci_scheduler *in, struct err *err)
{
    struct plan_scheduler *out = &plan->scheduler;
    if (find(policies, ARRAY_LEN(policies), in->policy, "process.scheduler.policy", &out->policy, err) < 0)
        return -1;
    bool realtime = out->policy == SCHED_FIFO || out->policy == SCHED_RR;
    if (in->nice < -20 || in->nice > 19)
        return err_set(err, ERR_INVALID_ARGUMENT, "process.scheduler.nice: %lld is not in [-20, 19]", (long long)in->nice);
    if (in->priority < 0 || in->priority > 99 || (in->priority && !realtime))
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "scheduler.priority can only be specified for SchedFIFO or SchedRR policy, from 0 to 99");
    if (out->policy != SCHED_DEADLINE && (in->runtime || in->deadline || in->period))
        return err_set(err, ERR_INVALID_ARGUMENT, "scheduler runtime/deadline/period can only be specified for SchedDeadline policy");
    for (size_t i = 0; i < in->flags.len; i++) {
        uint32_t flag = 0;
        if (find(scheduler_flags, ARRAY_LEN(scheduler_flags), in->flags.items[i], "process.scheduler.flags", &flag, err) < 0)
            return -1;
        out->flags |= flag;
    }
    out->nice = (int32_t)in->nice;
    out->priority = (uint32_t)in->priority;
    out->runtime = (uint64_t)in->runtime;
    out->deadline = (uint64_t)in->deadline;
    out->period = (uint64_t)in->period;
    plan_add(plan, OP_SCHEDULER)->text = arena_strdup(&plan->arena, in->policy);
    return 0;
}

static int plan_io_priority(struct sandbox_plan *plan, const struct oci_io_priority *in, struct err *err)
{
    uint32_t class = 0;
    if (find(io_classes, ARRAY_LEN(io_classes), in->class, "process.ioPriority.class", &class, err) < 0)
        return -1;
    if (in->priority < 0 || in->priority > 7)
        return err_set(err, ERR_INVALID_ARGUMENT, "process.ioPriority.priority: %lld is not in [0, 7]", (long long)in->priority);
    plan_add(plan, OP_IO_PRIORITY)->flags = class << 13 | (uint32_t)in->priority;
    return 0;
}

int plan_personality(struct sandbox_plan *plan, const struct oci_personality *personality, struct err *err)
{
    uint32_t value = 0;
    if (!personality)
        return 0;
    if (personality->flags.len)
        return err_set(err, ERR_INVALID_ARGUMENT, "linux.personality.flags: none is known");
    if (find(personalities, ARRAY_LEN(personalities), personality->domain, "linux.personality.domain", &value, err) < 0)
        return -1;
    plan_add(plan, OP_PERSONALITY)->flags = value;
    return 0;
}

// "0-3,7"
static int parse_cpus(const char *text, struct plan_affinity *out, struct err *err)
{
    struct slice rest = slice_of(text), part;
    while (slice_cut(&rest, ',', &part)) {
        struct slice last = part, first;
        uint64_t from, to;
        slice_cut(&last, '-', &first);
        bool good = num_parse_u64(slice_trim(first), AFFINITY_WORDS * 64 - 1, &from);
        to = from;
        if (!good || (last.data && !num_parse_u64(slice_trim(last), AFFINITY_WORDS * 64 - 1, &to)) || to < from)
            return err_set(err, ERR_INVALID_ARGUMENT, "execCPUAffinity: \"%.60s\" is no list of CPUs", text);
        for (uint64_t cpu = from; cpu <= to; cpu++)
            out->words[cpu / 64] |= 1UL << (cpu % 64);
    }
    out->set = true;
    return 0;
}

// Of further processes only; but the first one is the time to say that it is wrong.
static int plan_affinity(struct sandbox_plan *plan, const struct oci_cpu_affinity *affinity, struct err *err)
{
    struct plan_affinity initial = { 0 }, final = { 0 };
    if ((!str_empty(affinity->initial) && parse_cpus(affinity->initial, &initial, err) < 0) ||
        (!str_empty(affinity->final) && parse_cpus(affinity->final, &final, err) < 0))
        return -1;
    if (plan->init_pidfd >= 0) {
        plan->affinity = initial;
        plan->final_affinity = final;
    }
    return 0;
}

int plan_attributes(struct sandbox_plan *plan, const struct oci_process *process, struct err *err)
{
    if (process->scheduler && plan_scheduler(plan, process->scheduler, err) < 0)
        return -1;
    if (process->io_priority && plan_io_priority(plan, process->io_priority, err) < 0)
        return -1;
    if (process->exec_cpu_affinity && plan_affinity(plan, process->exec_cpu_affinity, err) < 0)
        return -1;
    if (plan->final_affinity.set)
        plan_add(plan, OP_AFFINITY)->how = OP_FINAL;
    if (!str_empty(process->apparmor_profile))
        plan_add(plan, OP_APPARMOR)->text = arena_strdup(&plan->arena, process->apparmor_profile);
    if (!str_empty(process->selinux_label))
        plan_add(plan, OP_SELINUX)->text = arena_strdup(&plan->arena, process->selinux_label);
    return 0;
}
