#include "guest.h"

#define SERIAL 0x3f8
#define LAPIC 0xfee00000UL
#define IOAPIC 0xfec00000UL
#define VECTOR 0x40
#define TRAMPOLINE 0x8000UL

volatile u32 interrupts;

extern const u8 trampoline[], trampoline_end[];
extern void on_interrupt(void);

void say(const char *text)
{
    for (; *text; text++)
        out8(SERIAL, (u8)*text);
}

void say_number(u64 value)
{
    char digits[24];
    int at = sizeof(digits) - 1;
    digits[at] = 0;
    do
        digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    say(digits + at);
}

void power_off(void)
{
    out8(0x600, 0x20 | 5 << 2);
    for (;;)
        __asm__ volatile("hlt");
}

static struct {
    u16 low, selector, flags, middle;
    u32 high, zero;
} idt[VECTOR + 1] __attribute__((aligned(16)));

void take_line(u32 gsi)
{
    u64 handler = (u64)on_interrupt;
    idt[VECTOR].low = (u16)handler;
    idt[VECTOR].middle = (u16)(handler >> 16);
    idt[VECTOR].selector = 0x8;
    idt[VECTOR].flags = 0x8e00;
    struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) pointer = { sizeof(idt) - 1, (u64)idt };
    __asm__ volatile("lidt %0" ::"m"(pointer));
    *mmio(LAPIC + 0xf0) = 0x1ff; // enabled
    *mmio(IOAPIC) = 0x10 + 2 * gsi;
    *mmio(IOAPIC + 0x10) = VECTOR;
    *mmio(IOAPIC) = 0x11 + 2 * gsi;
    *mmio(IOAPIC + 0x10) = 0; // to APIC 0
}

void wait_interrupts(u32 count)
{
    for (;;) {
        __asm__ volatile("cli");
        if (interrupts >= count)
            return;
        __asm__ volatile("sti; hlt" ::: "memory");
    }
}

void start_further(u32 apic_id)
{
    for (const u8 *from = trampoline; from < trampoline_end; from++)
        ((volatile u8 *)TRAMPOLINE)[from - trampoline] = *from;
    *mmio(LAPIC + 0xf0) = 0x1ff;
    *mmio(LAPIC + 0x310) = apic_id << 24;
    *mmio(LAPIC + 0x300) = 0x4500; // INIT
    *mmio(LAPIC + 0x310) = apic_id << 24;
    *mmio(LAPIC + 0x300) = 0x4600 | TRAMPOLINE >> 12; // SIPI
}

const char *command_line(u64 info, u32 protocol)
{
    if (protocol == 1) // struct hvm_start_info
        return *(u32 *)info == 0x336ec578 ? *(const char **)(info + 24) : "bad start info";
    return *(u32 *)(info + 0x202) == 0x53726448 ? (const char *)(u64) * (u32 *)(info + 0x228) : "bad zero page";
}

int same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}
