// A driver for a virtio disk, first device of the machine (test_machine.c): writes a sector, reads it back, says its number;
// for ever, or until its command line's count. Interrupt-driven. A failure is said in words and ends it. "hostile" instead does
// what no driver does, and then the same work once more.
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

static void negotiate(void)
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
}

static void start(void)
{
    negotiate();
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

// ---- hostile -------------------------------------------------------------------------------------------------------

static u32 chance = 1;

static u32 random(void)
{
    chance = chance * 1664525 + 1013904223;
    return chance >> 8;
}

// Rings where no memory is, where devices are, at odd places, and over each other.
static void wild_rings(void)
{
    static const u64 places[] = { 0, 1, 0xffffffffffffffff, 0xfffffffffffff000, BASE, 0xfee00000, 0xbffffff0, 0xff0000, 0x1000000,
                                  0x100000000, 0x7fffffffffffffff };
    for (u32 i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        for (u32 which = 0; which < 4; which++) {
            negotiate();
            set(QUEUE_NUM, which == 3 ? 256 : QUEUE_SIZE);
            for (u32 part = 0; part < 3; part++) {
                u64 place = which == 3 || part == which ? places[i] : (u64)descriptors;
                set(QUEUE_DESC + 0x10 * part, (u32)place);
                set(QUEUE_DESC + 0x10 * part + 4, (u32)(place >> 32));
            }
            set(QUEUE_READY, 1);
            set(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
            set(QUEUE_NOTIFY, 0);
            get(STATUS);
        }
}

// A good ring with descriptors that are none: anywhere, of any size, in circles, heads that don't exist, an index that jumps.
static void wild_chains(void)
{
    for (u32 round = 0; round < 40; round++) {
        start();
        for (u32 i = 0; i < QUEUE_SIZE; i++) {
            descriptors[i].address = random() % 3 ? (u64)data : (u64)random() << (random() % 40);
            descriptors[i].size = random() % 2 ? 16 : random() << 8;
            descriptors[i].flags = (u16)(random() % 8);
            descriptors[i].next = (u16)(random() % 4 ? random() % QUEUE_SIZE : random());
            available.ring[i] = (u16)(random() % 4 ? random() % QUEUE_SIZE : random());
        }
        available.index = (u16)(used.index + (random() % 2 ? QUEUE_SIZE : random()));
        set(QUEUE_NOTIFY, 0);
        get(STATUS);
    }
}

// Kicks, then the device is gone under them.
static void reset_storm(void)
{
    for (u32 i = 0; i < 200; i++) {
        if (i % 4 == 0)
            start();
        set(QUEUE_NOTIFY, random() % 4);
        set(STATUS, random() % 3 ? 0 : random());
    }
}

static void wild_registers(void)
{
    for (u32 i = 0; i < 500; i++) {
        u64 address = BASE + random() % 0x2000;
        if (random() % 2)
            *(volatile u8 *)address = (u8)random();
        else
            *mmio(address & ~3UL) = random() % 2 ? random() : ~0u;
        *(volatile u64 *)(address & ~7UL);
    }
}

// What a driver finds after all that: a device that is reset works again.
static void hostile(void)
{
    wild_rings();
    wild_chains();
    reset_storm();
    wild_registers();
    set(STATUS, 0);
    available.index = used.index = 0;
    requests = 0;
    start();
}

void main(u64 info, u32 protocol)
{
    u64 count = 0;
    const char *words = command_line(info, protocol);
    u32 wild = *words == 'h';
    for (const char *c = words; *c && !wild; c++)
        count = count * 10 + (u64)(*c - '0');
    take_line(LINE);
    if (wild) {
        hostile();
        count = 3;
    } else {
        start();
    }
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
