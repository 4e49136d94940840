// The ACPI tables of a hardware-reduced machine: RSDP, XSDT, FADT, MADT, DSDT. What a kernel knows of its devices stands in
// them: virtio-mmio devices (LNRO0005), the serial port, the power button behind a generic event device, the reset register
// and the sleep registers. No legacy interrupt controller, no PCI, no keyboard, no CMOS clock: and they say so, so that no
// kernel spends time to look for them.
#ifndef VMM_ACPI_H
#define VMM_ACPI_H

#include "base/buf.h"
#include "base/err.h"

struct acpi_mmio {
    uint64_t base; // below 4 GiB
    uint32_t size;
    uint32_t gsi;
};

struct acpi_machine {
    unsigned cpus; // APIC ids 0 to cpus - 1
    const struct acpi_mmio *mmio;
    size_t mmio_len;
};

// Fills the empty `out` with the tables as they lie at `gpa` (16-aligned, below 4 GiB), the RSDP first.
void acpi_build(const struct acpi_machine *machine, uint64_t gpa, struct buf *out);

#endif
