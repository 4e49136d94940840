#include <cpuid.h>
#include <errno.h>
#include <sys/ioctl.h>

#include "vmm/vcpu.h"

#define CPUID_LEN_MAX 256

#define FEATURES_EDX_HTT (1u << 28)
#define FEATURES_ECX_TSC_DEADLINE (1u << 24)
#define FEATURES_ECX_HYPERVISOR (1u << 31)

struct topology {
    unsigned index, cpus;
    unsigned id_bits; // of an APIC id that number a core in the package
    bool deadline_timer;
};

static void set_features(struct kvm_cpuid_entry2 *leaf, const struct topology *topology)
{
    leaf->ebx = (leaf->ebx & 0x0000ffff) | topology->index << 24 | 1u << (16 + topology->id_bits);
    leaf->ecx |= FEATURES_ECX_HYPERVISOR | (topology->deadline_timer ? FEATURES_ECX_TSC_DEADLINE : 0);
    leaf->edx = topology->cpus > 1 ? leaf->edx | FEATURES_EDX_HTT : leaf->edx & ~FEATURES_EDX_HTT;
}

// One package of single-threaded cores: level 0 is the thread, level 1 the core.
static void set_levels(struct kvm_cpuid_entry2 *leaf, const struct topology *topology)
{
    static const unsigned kind_thread = 1, kind_core = 2;
    unsigned level = leaf->index;
    leaf->edx = topology->index;
    leaf->eax = level == 1 ? topology->id_bits : 0;
    leaf->ebx = level == 0 ? 1 : level == 1 ? topology->cpus : 0;
    leaf->ecx = level | (level == 0 ? kind_thread : level == 1 ? kind_core : 0) << 8;
}

// Intel's caches: which of them cores share.
static void set_caches(struct kvm_cpuid_entry2 *leaf, const struct topology *topology)
{
    unsigned kind = leaf->eax & 0x1f, level = leaf->eax >> 5 & 7;
    if (kind == 0)
        return;
    unsigned sharing = level >= 3 ? (1u << topology->id_bits) - 1 : 0;
    leaf->eax = (leaf->eax & 0x3fff) | sharing << 14 | ((1u << topology->id_bits) - 1) << 26;
}

static void set_amd_cores(struct kvm_cpuid_entry2 *leaf, const struct topology *topology)
{
    leaf->ecx = (leaf->ecx & ~0xf0ffu) | topology->id_bits << 12 | (topology->cpus - 1);
}

static void set_amd_topology(struct kvm_cpuid_entry2 *leaf, const struct topology *topology)
{
    leaf->eax = topology->index;
    leaf->ebx = topology->index; // one thread a core
    leaf->ecx = 0; // one node
}

static const struct {
    uint32_t leaf;
    void (*set)(struct kvm_cpuid_entry2 *leaf, const struct topology *topology);
} changes[] = {
    { 0x1, set_features },         { 0x4, set_caches },            { 0xb, set_levels },
    { 0x1f, set_levels },          { 0x80000008, set_amd_cores },  { 0x8000001e, set_amd_topology },
};

// Level 1 of the topology leaves is not among what KVM lists when the host's own processor has none.
static void complete_levels(struct kvm_cpuid2 *leaves, uint32_t function)
{
    bool first = false, second = false;
    for (uint32_t i = 0; i < leaves->nent; i++) {
        first |= leaves->entries[i].function == function && leaves->entries[i].index == 0;
        second |= leaves->entries[i].function == function && leaves->entries[i].index == 1;
    }
    if (!first || second || leaves->nent == CPUID_LEN_MAX)
        return;
    leaves->entries[leaves->nent++] = (struct kvm_cpuid_entry2){
        .function = function, .index = 1, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
    };
}

static unsigned bits_for(unsigned cpus)
{
    unsigned bits = 0;
    while (1u << bits < cpus)
        bits++;
    return bits;
}

int vcpu_set_cpuid(struct kvm *kvm, int vcpu_fd, unsigned index, unsigned cpus, struct err *err)
{
    _cleanup_free_ struct kvm_cpuid2 *leaves = mem_alloc(sizeof(*leaves) + CPUID_LEN_MAX * sizeof(leaves->entries[0]));
    struct topology topology = { index, cpus, bits_for(cpus), kvm_capability(kvm, KVM_CAP_TSC_DEADLINE_TIMER) > 0 };
    leaves->nent = CPUID_LEN_MAX;
    if (kvm_call(kvm->fd, KVM_GET_SUPPORTED_CPUID, leaves, "KVM_GET_SUPPORTED_CPUID", err) < 0)
        return -1;
    complete_levels(leaves, 0xb);
    complete_levels(leaves, 0x1f);
    for (uint32_t i = 0; i < leaves->nent; i++)
        for (size_t j = 0; j < ARRAY_LEN(changes); j++)
            if (leaves->entries[i].function == changes[j].leaf)
                changes[j].set(&leaves->entries[i], &topology);
    return kvm_call(vcpu_fd, KVM_SET_CPUID2, leaves, "KVM_SET_CPUID2", err);
}
