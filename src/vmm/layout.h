// Where things stand in a guest's physical address space and on its interrupt lines.
//
//     0            0x9fc00    640 KiB of RAM; the boot pages below lie in it and are free once the kernel runs
//     0xe0000      1 MiB      ACPI tables, the RSDP first; reserved
//     1 MiB        3 GiB      RAM: kernel, initramfs at its upper end
//     3 GiB        4 GiB      no RAM: virtio-mmio at 0xd0000000, IOAPIC, LAPIC, KVM's own TSS pages
//     4 GiB        ...        the rest of RAM
//     after it     ...        what the machine maps besides (virtio-pmem), from the next 1 GiB boundary on
#ifndef VMM_LAYOUT_H
#define VMM_LAYOUT_H

#define PAGE 4096
#define LARGE_PAGE (UINT64_C(2) << 20)

#define LAYOUT_GDT 0x500
#define LAYOUT_PVH_INFO 0x6000 // start info, module list, memory map: one page
#define LAYOUT_ZERO_PAGE 0x7000
#define LAYOUT_STACK 0x8ff0 // grows down; Linux uses its own at once
#define LAYOUT_PAGE_TABLES 0x9000 // three pages
#define LAYOUT_CMDLINE 0x20000
#define LAYOUT_CMDLINE_MAX 2048 // bytes with the NUL; Linux reads no more on x86
#define LAYOUT_LOW_END 0x9fc00
#define LAYOUT_ACPI 0xe0000
#define LAYOUT_ACPI_SIZE 0x20000
#define LAYOUT_HIGH_START 0x100000

#define LAYOUT_HOLE_START UINT64_C(0xc0000000)
#define LAYOUT_HOLE_END UINT64_C(0x100000000)
#define LAYOUT_MMIO UINT64_C(0xd0000000) // one page a device
#define LAYOUT_IOAPIC 0xfec00000U
#define LAYOUT_LAPIC 0xfee00000U
#define LAYOUT_KVM_TSS 0xfffbd000U // three pages for Intel's real mode; before them KVM's identity map

// Lines of the IOAPIC. Hardware-reduced ACPI has no legacy controller, so only ours are taken: the timer's, the serial
// port's, one for the power button, the rest for devices.
#define LAYOUT_GSI_LEN 24
#define LAYOUT_GSI_SERIAL 4
#define LAYOUT_GSI_BUTTON 5
#define LAYOUT_GSI_DEVICES 6

#define LAYOUT_PORT_SERIAL 0x3f8 // 8 ports
#define LAYOUT_PORT_KEYBOARD 0x64
#define LAYOUT_RESET_VALUE 0xfe // written to it: the processor's reset line
#define LAYOUT_PORT_SLEEP 0x600 // ACPI sleep control register, and sleep status behind it
#define LAYOUT_SLEEP_OFF 5 // the sleep type of \_S5

#endif
