// A processor's state as KVM hands it out, structure by structure, and the order in which it takes it back:
//
//     MP state, REGS, SREGS (mode and APIC base), XCRS, DEBUGREGS, LAPIC (its mode is in SREGS), extended registers (XCRS
//     says which), MSRs (the deadline timer needs the LAPIC), events (SREGS would clear a pending interrupt)
//
// CPUID is set before any of it, by vcpu_init().
#include <errno.h>
#include <sys/ioctl.h>

#include "vmm/vcpu.h"

#define SECTION_VERSION 1
#define XSAVE_MAX (64u << 10)
#define MSRS_MAX 512

// Kept besides what KVM lists: memory types, which older KVMs leave out.
static const struct {
    uint32_t first, len;
} extra_msrs[] = {
    { 0x1a0, 1 }, // IA32_MISC_ENABLE
    { 0x200, 16 }, // variable MTRRs
    { 0x250, 1 }, { 0x258, 2 }, { 0x268, 8 }, // fixed MTRRs
    { 0x277, 1 }, // PAT
    { 0x2ff, 1 }, // IA32_MTRR_DEF_TYPE
};

// ---- model-specific registers --------------------------------------------------------------------------------------

union one_msr {
    struct kvm_msrs list;
    uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

static void name_msr(union one_msr *msr, uint32_t number, uint64_t value)
{
    *msr = (union one_msr){ 0 };
    msr->list.nmsrs = 1;
    msr->list.entries[0] = (struct kvm_msr_entry){ .index = number, .data = value };
}

static bool get_msr(int vcpu_fd, uint32_t number, uint64_t *value)
{
    union one_msr msr;
    name_msr(&msr, number, 0);
    int got = ioctl(vcpu_fd, KVM_GET_MSRS, &msr);
    *value = msr.list.entries[0].data;
    return got == 1;
}

bool vcpu_set_msr(int vcpu_fd, uint32_t number, uint64_t value)
{
    union one_msr msr;
    name_msr(&msr, number, value);
    return ioctl(vcpu_fd, KVM_SET_MSRS, &msr) == 1;
}

struct msr_numbers {
    uint32_t numbers[MSRS_MAX];
    uint32_t len;
};

static void add_msr(struct msr_numbers *list, uint32_t number)
{
    for (uint32_t i = 0; i < list->len; i++)
        if (list->numbers[i] == number)
            return;
    if (list->len < MSRS_MAX)
        list->numbers[list->len++] = number;
}

static int list_msrs(const struct kvm *kvm, struct msr_numbers *out, struct err *err)
{
    _cleanup_free_ struct kvm_msr_list *list = mem_alloc(sizeof(*list) + MSRS_MAX * sizeof(list->indices[0]));
    list->nmsrs = MSRS_MAX;
    if (kvm_call(kvm->fd, KVM_GET_MSR_INDEX_LIST, list, "KVM_GET_MSR_INDEX_LIST", err) < 0)
        return -1;
    out->len = 0;
    for (uint32_t i = 0; i < list->nmsrs; i++)
        add_msr(out, list->indices[i]);
    for (size_t i = 0; i < ARRAY_LEN(extra_msrs); i++)
        for (uint32_t j = 0; j < extra_msrs[i].len; j++)
            add_msr(out, extra_msrs[i].first + j);
    return 0;
}

static int save_msrs(const struct vcpu *vcpu, struct state_writer *writer, struct err *err)
{
    struct msr_numbers list;
    if (list_msrs(vcpu->kvm, &list, err) < 0)
        return -1;
    struct kvm_msr_entry found[MSRS_MAX];
    uint32_t len = 0;
    for (uint32_t i = 0; i < list.len; i++) {
        uint64_t value;
        if (get_msr(vcpu->fd, list.numbers[i], &value))
            found[len++] = (struct kvm_msr_entry){ .index = list.numbers[i], .data = value };
    }
    state_put32(writer, len);
    for (uint32_t i = 0; i < len; i++) {
        state_put32(writer, found[i].index);
        state_put64(writer, found[i].data);
    }
    return 0;
}

// Some are read-only on some hosts: no loss when they already have the saved value.
static void load_msr(const struct vcpu *vcpu, struct state_reader *reader, uint32_t number, uint64_t value)
{
    uint64_t present;
    if (vcpu_set_msr(vcpu->fd, number, value) || (get_msr(vcpu->fd, number, &present) && present == value))
        return;
    state_fail(reader, "this host's processor refuses MSR 0x%x = 0x%llx", number, (unsigned long long)value);
}

static void load_msrs(const struct vcpu *vcpu, struct state_reader *reader)
{
    uint32_t len = state_get32(reader);
    if (len > MSRS_MAX)
        state_fail(reader, "%u model-specific registers", len);
    for (uint32_t i = 0; i < len && !reader->failed; i++) {
        uint32_t number = state_get32(reader);
        uint64_t value = state_get64(reader);
        if (!reader->failed)
            load_msr(vcpu, reader, number, value);
    }
}

// ---- everything else is a structure of KVM's -----------------------------------------------------------------------

union piece {
    struct kvm_mp_state mp_state;
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_xcrs xcrs;
    struct kvm_debugregs debugregs;
    struct kvm_lapic_state lapic;
    struct kvm_vcpu_events events;
};

struct step {
    const char *name;
    unsigned long get, set;
    uint32_t size;
};

// Before and after the model-specific registers.
static const struct step steps[] = {
    { "MP state", KVM_GET_MP_STATE, KVM_SET_MP_STATE, sizeof(struct kvm_mp_state) },
    { "REGS", KVM_GET_REGS, KVM_SET_REGS, sizeof(struct kvm_regs) },
    { "SREGS", KVM_GET_SREGS, KVM_SET_SREGS, sizeof(struct kvm_sregs) },
    { "XCRS", KVM_GET_XCRS, KVM_SET_XCRS, sizeof(struct kvm_xcrs) },
    { "DEBUGREGS", KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, sizeof(struct kvm_debugregs) },
    { "LAPIC", KVM_GET_LAPIC, KVM_SET_LAPIC, sizeof(struct kvm_lapic_state) },
};
static const struct step last_step = { "events", KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, sizeof(struct kvm_vcpu_events) };

static int save_step(const struct vcpu *vcpu, const struct step *step, struct state_writer *writer, struct err *err)
{
    union piece piece = { 0 };
    if (kvm_call(vcpu->fd, step->get, &piece, step->name, err) < 0)
        return err_wrap(err, "save vCPU %u", vcpu->index);
    state_put_blob(writer, &piece, step->size);
    return 0;
}

static void load_step(const struct vcpu *vcpu, const struct step *step, struct state_reader *reader)
{
    union piece piece = { 0 };
    if (state_get_blob(reader, &piece, step->size) != step->size)
        state_fail(reader, "%s has another size", step->name);
    if (!reader->failed && ioctl(vcpu->fd, step->set, &piece) < 0)
        state_fail(reader, "%s of vCPU %u: KVM says %s", step->name, vcpu->index, strerror(errno));
}

static int save_xsave(const struct vcpu *vcpu, struct state_writer *writer, struct err *err)
{
    size_t size = MIN_OF(vcpu->kvm->xsave_size, (size_t)XSAVE_MAX);
    unsigned long request = kvm_capability(vcpu->kvm, KVM_CAP_XSAVE2) > 0 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE;
    _cleanup_free_ void *area = mem_alloc(size);
    if (kvm_call(vcpu->fd, request, area, "KVM_GET_XSAVE", err) < 0)
        return -1;
    state_put_blob(writer, area, (uint32_t)size);
    return 0;
}

static void load_xsave(const struct vcpu *vcpu, struct state_reader *reader)
{
    size_t size = MIN_OF(vcpu->kvm->xsave_size, (size_t)XSAVE_MAX);
    _cleanup_free_ void *area = mem_alloc(size); // a smaller area is completed with zeros
    state_get_blob(reader, area, (uint32_t)size);
    if (!reader->failed && ioctl(vcpu->fd, KVM_SET_XSAVE, area) < 0)
        state_fail(reader, "extended registers of vCPU %u: KVM says %s", vcpu->index, strerror(errno));
}

int vcpu_save(struct vcpu *vcpu, struct state_writer *writer, struct err *err)
{
    state_begin(writer, "vcpu", SECTION_VERSION);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        if (save_step(vcpu, &steps[i], writer, err) < 0)
            return -1;
    if (save_xsave(vcpu, writer, err) < 0 || save_msrs(vcpu, writer, err) < 0)
        return -1;
    return save_step(vcpu, &last_step, writer, err);
}

int vcpu_load(struct vcpu *vcpu, struct state_reader *reader)
{
    state_enter(reader, "vcpu", SECTION_VERSION);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        load_step(vcpu, &steps[i], reader);
    load_xsave(vcpu, reader);
    load_msrs(vcpu, reader);
    load_step(vcpu, &last_step, reader);
    return state_check(reader);
}
