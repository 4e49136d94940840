// The guest of test_machine.c: its command line names what it does.
#include "guest.h"

#define PORT_TEST 0x500 // a device of the test: writes raise line 6, reads give 0x12345678
#define PORT_KICK 0x510
#define MMIO_TEST 0xd0100000UL
#define MMIO_KICK 0xd0200000UL
#define LINE 6

static volatile u32 further_runs;

void further_main(void)
{
    for (;;)
        further_runs++;
}

static void hello(void)
{
    say("hello from a guest\n");
}

// What came over the serial port goes back, until a full stop.
static void echo(void)
{
    u8 byte = 0;
    say("ready\n");
    while (byte != '.') {
        while (!(in8(0x3f8 + 5) & 1))
            ;
        byte = in8(0x3f8);
        out8(0x3f8, byte);
    }
}

static void exits(void)
{
    volatile u64 *wide = (volatile u64 *)MMIO_TEST;
    volatile u8 *narrow = (volatile u8 *)MMIO_TEST;
    u32 port = in32(PORT_TEST);
    *wide = 0x1122334455667788;
    narrow[1] = 0xab;
    say(port == 0x12345678 && *wide == 0x112233445566ab88 ? "exits ok\n" : "exits wrong\n");
}

static void interrupted(void)
{
    take_line(LINE);
    for (u32 i = 1; i <= 5; i++) {
        out32(PORT_TEST, i);
        wait_interrupts(i);
    }
    say("interrupts ");
    say_number(interrupts);
    say("\n");
}

static void kicks(void)
{
    for (u32 i = 0; i < 3; i++) {
        out32(PORT_KICK, 7);
        *mmio(MMIO_KICK) = 1;
    }
    say("kicked\n");
}

static void smp(void)
{
    start_further(1);
    while (further_runs < 100)
        __asm__ volatile("pause");
    say("two processors\n");
}

static void count(void)
{
    for (u64 i = 1;; i++) {
        say_number(i);
        say("\n");
    }
}

// Both processors are busy, and the counter that goes on belongs to the second.
static void count_smp(void)
{
    start_further(1);
    for (u64 i = 1;; i++) {
        u32 before = further_runs;
        while (further_runs == before)
            ;
        say_number(i);
        say("\n");
    }
}

static void wild(void)
{
    static const u64 places[] = {
        0xc0000000, 0xd00fffff, 0xd0100ffd, 0xfebffffc, 0xfec00ffc, 0xfed00000, 0xfffffff8, 0xd0000000,
    };
    u32 sum = 0;
    for (u32 i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        volatile u64 *wide = (volatile u64 *)places[i];
        volatile u8 *narrow = (volatile u8 *)places[i];
        *wide = 0xdeadbeef;
        *narrow = 1;
        sum += *narrow + (u32)*wide;
    }
    for (u32 port = 0x700; port < 0x740; port++)
        out8((u16)port, (u8)sum), sum += in32((u16)port);
    say(in32(0x720) == 0xffffffff ? "wild and alive\n" : "wild wrong\n");
}

static void crash(void)
{
    struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) none = { 0, 0 };
    say("crashing\n");
    __asm__ volatile("lidt %0; ud2" ::"m"(none));
}

static void reset(void)
{
    out8(0x64, 0xfe);
}

static void spin(void)
{
    say("spinning\n");
    for (;;)
        ;
}

static const struct {
    const char *name;
    void (*run)(void);
} commands[] = {
    { "hello", hello }, { "echo", echo },   { "exits", exits },         { "interrupts", interrupted },
    { "kicks", kicks }, { "smp", smp },     { "count", count },         { "count-smp", count_smp },
    { "wild", wild },   { "crash", crash }, { "reset", reset },         { "spin", spin },
};

void main(u64 info, u32 protocol)
{
    const char *wanted = command_line(info, protocol);
    for (u32 i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (same(wanted, commands[i].name)) {
            commands[i].run();
            power_off();
        }
    say("unknown command: ");
    say(wanted);
    say("\n");
    power_off();
}
