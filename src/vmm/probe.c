// Capabilities say what KVM offers, not how it does it: a software back end has them all and yet emulates each instruction
// of a guest's kernel. So a guest of a few instructions counts in ring 0, and the clock tells.
#include <sys/mman.h>

#include "base/clock.h"
#include "vmm/machine.h"

#define PORT_LOOPS 0xe9
#define CODE_GPA 0x100000
#define LOOP_INSTRUCTIONS 2
#define LOOPS_FIRST 10000u
#define LOOPS_FACTOR 32u
#define LOOPS_MAX (1u << 28)
#define LONG_ENOUGH_NS (10 * NS_PER_MS) // beside which an exit is nothing
// Between an emulator's one or two and the hundreds that even a nested processor has which is itself emulated.
#define KERNEL_MIPS 20.0
#define PROBE_NS (10 * NS_PER_S)

// 32-bit, flat. Asks how often to loop, loops, asks again; after an answer of 0 it resets.
static const uint8_t guest_code[] = {
    0xe5, PORT_LOOPS, // ask: in eax, PORT_LOOPS
    0x85, 0xc0, 0x74, 0x05, // test eax, eax; jz done
    0x48, 0x75, 0xfd, // loop: dec eax; jnz loop
    0xeb, 0xf5, // jmp ask
    0xb0, LAYOUT_RESET_VALUE, 0xe6, LAYOUT_PORT_KEYBOARD, 0xf4, // done: mov al, ..; out .., al; hlt
};

// What the guest asks: more loops until they take long enough to be measured.
struct metronome {
    struct bus_device bus;
    uint32_t loops; // given last
    int64_t since;
    double mips;
};

static void answer_loops(struct bus_device *device, uint64_t offset, void *data, unsigned size)
{
    struct metronome *metronome = (struct metronome *)device;
    int64_t took = clock_mono_ns() - metronome->since;
    uint32_t next = LOOPS_FIRST;
    if (metronome->loops) {
        metronome->mips = (double)metronome->loops * LOOP_INSTRUCTIONS * 1000 / (double)MAX_OF(took, 1);
        bool enough = took >= LONG_ENOUGH_NS || metronome->loops > LOOPS_MAX / LOOPS_FACTOR;
        next = enough ? 0 : metronome->loops * LOOPS_FACTOR;
    }
    metronome->loops = next;
    memcpy(data, &next, size);
    metronome->since = clock_mono_ns();
}

static void ignore_write(struct bus_device *device, uint64_t offset, const void *data, unsigned size)
{
}

static const struct bus_ops metronome_ops = { "probe", answer_loops, ignore_write };

// Made by hand instead of machine_boot(): its kernel is a few bytes.
static int boot(struct machine *machine, struct err *err)
{
    gmem_write(&machine->memory, CODE_GPA, guest_code, sizeof(guest_code));
    if (machine_make_vcpus(machine, err) < 0 ||
        vcpu_boot(&machine->vcpus[0], &(struct boot_entry){ BOOT_PVH, CODE_GPA, 0 }, err) < 0)
        return -1;
    machine->phase = PHASE_READY;
    return machine_start(machine, err);
}

static int wait_for_guest(struct machine *machine, struct err *err)
{
    struct machine_end end;
    if (machine_wait(machine, clock_mono_ns() + PROBE_NS, &end) == 0)
        return err_set(err, ERR_UNAVAILABLE, "a guest of a few instructions does not come to its end");
    if (end.kind != MACHINE_RESET)
        return err_set(err, ERR_UNAVAILABLE, "a guest of a few instructions %s: %s", machine_end_name(end.kind), end.why);
    return 0;
}

static int run_guest(int kvm_fd, double *mips, struct err *err)
{
    struct machine_config config = MACHINE_CONFIG_INIT;
    struct metronome metronome = { .bus.ops = &metronome_ops };
    struct machine *machine;
    config.memory_size = MACHINE_MEMORY_MIN;
    config.kvm_fd = kvm_fd;
    if (machine_new(&config, &machine, err) < 0)
        return -1;
    int result = machine_add_ports(machine, PORT_LOOPS, 4, &metronome.bus, err);
    if (result == 0)
        result = boot(machine, err);
    if (result == 0)
        result = wait_for_guest(machine, err);
    machine_free(machine);
    *mips = metronome.mips;
    return result;
}

void vmm_probe(int kvm_fd, struct vmm_probe *out)
{
    struct err err;
    *out = (struct vmm_probe){ 0 };
    if (run_guest(kvm_fd, &out->privileged_mips, &err) < 0) {
        snprintf(out->why, sizeof(out->why), "%s", err.message);
        return;
    }
    out->usable = true;
    out->runs_kernels = out->privileged_mips >= KERNEL_MIPS;
    if (!out->runs_kernels)
        snprintf(out->why, sizeof(out->why),
                 "this KVM emulates the guest's privileged code (%.1f million instructions a second): an ordinary kernel "
                 "does not get through its boot", out->privileged_mips);
}
