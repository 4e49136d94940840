// A driver for a virtio disk, first device of the machine (test_machine.c): writes a sector, reads it back, says its number;
// for ever, or until its command line's count. Interrupt-driven. A failure is said in words and ends it.
#include "guest.h"

#define BASE 0xd0000000UL
#define LINE 7
#define QUEUE_SIZE 8
#define SECTORS 64

enum {
    MAGIC = 0x000, VERSION = 0x004, DEVICE_ID = 0x008, DRIVER_FEATURES = 0x020, DRIVER_FEATURES_SEL = 0x024,
    QUEUE_SEL = 0x030, QUEUE_NUM_MAX = 0x034, QUEUE_NUM = 0x038, QUEUE_READY = 0x044, QUEUE_NOTIFY = 0x050,
    INTERRUPT_STATUS = 0x060, INTERRUPT_ACK = 0x064, STATUS = 0x070,
    QUEUE_DESC = 0x080, QUEUE_DRIVER = 0x090, QUEUE_DEVICE = 0x0a0, // low, high
};
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8 };
enum { READ, WRITE }; // of struct header
enum { NEXT = 1, DEVICE_WRITES = 2 }; // of a descriptor

static struct {
    u64 address;
    u32 size;
    u16 flags, next;
} descriptors[QUEUE_SIZE] __attribute__((aligned(16)));
static volatile struct {
    u16 flags, index, ring[QUEUE_SIZE], used_event;
} available __attribute__((aligned(4)));
static volatile struct {
    u16 flags, index;
    struct {
        u32 id, size;
    } ring[QUEUE_SIZE];
    u16 available_event;
} used __attribute__((aligned(4)));

static struct {
    u32 kind, reserved;
    u64 sector;
} header;
static u64 data[64];
static volatile u8 result;
static u32 requests;

static u32 get(u32 reg)
{
    return *mmio(BASE + reg);
}

static void set(u32 reg, u32 value)
{
    *mmio(BASE + reg) = value;
}

void further_main(void)
{
}

_Noreturn static void fail(const char *why)
{
    say("failed: ");
    say(why);
    say("\n");
    power_off();
}

static void set_address(u32 reg, const volatile void *address)
{
    set(reg, (u32)(u64)address);
    set(reg + 4, 0);
}

static void start(void)
{
    if (get(MAGIC) != 0x74726976 || get(VERSION) != 2 || get(DEVICE_ID) != 2)
        fail("no disk");
    set(STATUS, 0);
    set(STATUS, ACKNOWLEDGE);
    set(STATUS, ACKNOWLEDGE | DRIVER);
    set(DRIVER_FEATURES_SEL, 1);
    set(DRIVER_FEATURES, 1); // VIRTIO_F_VERSION_1
    set(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    if (!(get(STATUS) & FEATURES_OK) || get(QUEUE_NUM_MAX) < QUEUE_SIZE)
        fail("features");
    set(QUEUE_SEL, 0);
    set(QUEUE_NUM, QUEUE_SIZE);
    set_address(QUEUE_DESC, descriptors);
    set_address(QUEUE_DRIVER, &available);
    set_address(QUEUE_DEVICE, &used);
    set(QUEUE_READY, 1);
    set(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
}

static void request(u32 kind, u64 sector)
{
    header.kind = kind;
    header.sector = sector;
    result = 0xff;
    descriptors[0].address = (u64)&header;
    descriptors[0].size = sizeof(header);
    descriptors[0].flags = NEXT;
    descriptors[0].next = 1;
    descriptors[1].address = (u64)data;
    descriptors[1].size = sizeof(data);
    descriptors[1].flags = NEXT | (kind == READ ? DEVICE_WRITES : 0);
    descriptors[1].next = 2;
    descriptors[2].address = (u64)&result;
    descriptors[2].size = 1;
    descriptors[2].flags = DEVICE_WRITES;
    available.ring[available.index % QUEUE_SIZE] = 0;
    __asm__ volatile("" ::: "memory");
    available.index++;
    set(QUEUE_NOTIFY, 0);
    requests++;
    // Spurious interrupts happen: the ring says when it is done. Enabled only around hlt.
    for (;;) {
        __asm__ volatile("cli" ::: "memory");
        if (used.index == (u16)requests)
            break;
        __asm__ volatile("sti; hlt" ::: "memory");
    }
    set(INTERRUPT_ACK, get(INTERRUPT_STATUS));
    if (result != 0)
        fail("status");
}

void main(u64 info, u32 protocol)
{
    u64 count = 0;
    for (const char *c = command_line(info, protocol); *c; c++)
        count = count * 10 + (u64)(*c - '0');
    take_line(LINE);
    start();
    for (u64 i = 1; count == 0 || i <= count; i++) {
        data[0] = i;
        data[63] = ~i;
        request(WRITE, i % SECTORS);
        data[0] = data[63] = 0;
        request(READ, i % SECTORS);
        if (data[0] != i || data[63] != ~i)
            fail("data");
        say_number(i);
        say("\n");
    }
    say("disk ok\n");
    power_off();
}
