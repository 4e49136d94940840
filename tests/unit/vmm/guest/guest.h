// What test guests share: ports, MMIO, the serial port, interrupts. No library below it.
#ifndef GUEST_H
#define GUEST_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

static inline void out8(u16 port, u8 value)
{
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}
static inline void out32(u16 port, u32 value)
{
    __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}
static inline u8 in8(u16 port)
{
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline u32 in32(u16 port)
{
    u32 value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline volatile u32 *mmio(u64 address)
{
    return (volatile u32 *)address;
}

extern volatile u32 interrupts; // counted by on_interrupt (start.S)
void main(u64 info, u32 protocol);
void further_main(void);

void say(const char *text);
void say_number(u64 value);
_Noreturn void power_off(void);
// Interrupt line `gsi` leads to on_interrupt.
void take_line(u32 gsi);
void wait_interrupts(u32 count); // sleeps until so many were counted
void start_further(u32 apic_id); // INIT, SIPI: it goes to further_main
const char *command_line(u64 info, u32 protocol);
int same(const char *a, const char *b);

#endif
