#include "vmm/acpi.h"
#include "vmm/acpi_aml.h"
#include "vmm/layout.h"

#define FADT_SIZE 276
#define FADT_FLAGS (1u << 0 /* WBINVD */ | 1u << 4 /* power button is a device */ | 1u << 5 /* sleep button too */ | \
                    1u << 10 /* reset register */ | 1u << 20 /* hardware-reduced */)
#define FADT_BOOT_FLAGS (1u << 2 /* no VGA */ | 1u << 5 /* no CMOS clock */) // and no bit for a keyboard controller

static void put(struct buf *out, uint64_t value, size_t size)
{
    buf_add(out, &value, size);
}

static void zeros(struct buf *out, size_t size)
{
    while (size--)
        buf_addc(out, 0);
}

static void set(struct buf *out, size_t at, uint64_t value, size_t size)
{
    if (!out->overflow)
        memcpy(out->data + at, &value, size);
}

// The byte that makes [start, start + size) add up to zero.
static void sum(struct buf *out, size_t start, size_t size, size_t sum_at)
{
    uint8_t total = 0;
    for (size_t i = start; !out->overflow && i < start + size; i++)
        total = (uint8_t)(total + (uint8_t)out->data[i]);
    set(out, sum_at, (uint8_t)-total, 1);
}

// ---- the header that all tables but the RSDP have ------------------------------------------------------------------

static size_t table_begin(struct buf *out, const char *signature, uint8_t revision)
{
    while (out->size % 16)
        buf_addc(out, 0);
    size_t start = out->size;
    buf_adds(out, signature);
    zeros(out, 4); // length
    put(out, revision, 1);
    zeros(out, 1); // checksum
    buf_adds(out, "BERTH ");
    buf_adds(out, "BERTHVM ");
    put(out, 1, 4);
    buf_adds(out, "BRTH");
    put(out, 1, 4);
    return start;
}

static void table_end(struct buf *out, size_t start)
{
    set(out, start + 4, out->size - start, 4);
    sum(out, start, out->size - start, start + 9);
}

// ---- DSDT ----------------------------------------------------------------------------------------------------------

static void add_serial(struct buf *out)
{
    size_t device = aml_device(out, "COM1");
    aml_name_eisa(out, "_HID", "PNP0501");
    aml_name_integer(out, "_UID", 1);
    size_t resources = aml_resources(out);
    aml_resource_ports(out, LAYOUT_PORT_SERIAL, 8);
    aml_resource_interrupt(out, LAYOUT_GSI_SERIAL);
    aml_resources_end(out, resources);
    aml_end(out, device);
}

// The button has no line of its own: a generic event device takes the interrupt and notifies it.
static void add_power_button(struct buf *out)
{
    size_t button = aml_device(out, "PWRB");
    aml_name_eisa(out, "_HID", "PNP0C0C");
    aml_name_integer(out, "_UID", 0);
    aml_end(out, button);

    size_t events = aml_device(out, "EVTS");
    aml_name_string(out, "_HID", "ACPI0013");
    aml_name_integer(out, "_UID", 0);
    size_t resources = aml_resources(out);
    aml_resource_interrupt(out, LAYOUT_GSI_BUTTON);
    aml_resources_end(out, resources);
    size_t method = aml_method(out, "_EVT", 1);
    aml_notify(out, "\\._SB_PWRB", 0x80);
    aml_end(out, method);
    aml_end(out, events);
}

static void add_virtio(struct buf *out, const struct acpi_mmio *mmio, unsigned index)
{
    char name[5];
    snprintf(name, sizeof(name), "VR%02X", index & 0xff);
    size_t device = aml_device(out, name);
    aml_name_string(out, "_HID", "LNRO0005");
    aml_name_integer(out, "_UID", index);
    aml_name_integer(out, "_CCA", 1); // its DMA is coherent
    size_t resources = aml_resources(out);
    aml_resource_memory(out, (uint32_t)mmio->base, mmio->size);
    aml_resource_interrupt(out, mmio->gsi);
    aml_resources_end(out, resources);
    aml_end(out, device);
}

static size_t add_dsdt(struct buf *out, const struct acpi_machine *machine)
{
    static const uint8_t sleep_off[] = { LAYOUT_SLEEP_OFF, 0, 0, 0 };
    size_t start = table_begin(out, "DSDT", 2);
    aml_name_package(out, "\\_S5_", sleep_off, ARRAY_LEN(sleep_off));
    size_t scope = aml_scope(out, "\\_SB_");
    add_serial(out);
    add_power_button(out);
    for (size_t i = 0; i < machine->mmio_len; i++)
        add_virtio(out, &machine->mmio[i], (unsigned)i);
    aml_end(out, scope);
    table_end(out, start);
    return start;
}

// ---- the tables of fixed form --------------------------------------------------------------------------------------

// Generic address structure: a byte-wide I/O port.
static void set_port(struct buf *out, size_t at, uint16_t port)
{
    set(out, at, 1, 1); // I/O space
    set(out, at + 1, 8, 1); // bits
    set(out, at + 3, 1, 1); // byte access
    set(out, at + 4, port, 8);
}

static size_t add_fadt(struct buf *out, uint64_t dsdt_gpa)
{
    size_t start = table_begin(out, "FACP", 6);
    zeros(out, FADT_SIZE - (out->size - start));
    set(out, start + 40, dsdt_gpa, 4);
    set(out, start + 109, FADT_BOOT_FLAGS, 2);
    set(out, start + 112, FADT_FLAGS, 4);
    set_port(out, start + 116, LAYOUT_PORT_KEYBOARD); // reset register
    set(out, start + 128, LAYOUT_RESET_VALUE, 1);
    set(out, start + 140, dsdt_gpa, 8);
    set_port(out, start + 244, LAYOUT_PORT_SLEEP); // sleep control register
    set_port(out, start + 256, LAYOUT_PORT_SLEEP + 1); // sleep status register
    table_end(out, start);
    return start;
}

static size_t add_madt(struct buf *out, unsigned cpus)
{
    size_t start = table_begin(out, "APIC", 5);
    put(out, LAYOUT_LAPIC, 4);
    put(out, 0, 4); // no PIC
    for (unsigned i = 0; i < cpus; i++) {
        const uint8_t local_apic[8] = { 0, 8, (uint8_t)i, (uint8_t)i, 1 /* enabled */ };
        buf_add(out, local_apic, sizeof(local_apic));
    }
    const uint8_t io_apic[4] = { 1, 12 }; // id 0
    buf_add(out, io_apic, sizeof(io_apic));
    put(out, LAYOUT_IOAPIC, 4);
    put(out, 0, 4); // its first line
    const uint8_t nmi[6] = { 4, 6, 0xff /* every processor */, 0, 0, 1 /* LINT1 */ };
    buf_add(out, nmi, sizeof(nmi));
    table_end(out, start);
    return start;
}

static size_t add_xsdt(struct buf *out, uint64_t gpa, size_t fadt, size_t madt)
{
    size_t start = table_begin(out, "XSDT", 1);
    put(out, gpa + fadt, 8);
    put(out, gpa + madt, 8);
    table_end(out, start);
    return start;
}

static void add_rsdp(struct buf *out)
{
    buf_adds(out, "RSD PTR ");
    zeros(out, 1); // checksum of the first 20 bytes
    buf_adds(out, "BERTH ");
    put(out, 2, 1); // revision
    zeros(out, 4); // no RSDT
    put(out, 36, 4);
    zeros(out, 8 + 1 + 3); // XSDT, checksum of all, reserved
}

void acpi_build(const struct acpi_machine *machine, uint64_t gpa, struct buf *out)
{
    add_rsdp(out);
    size_t dsdt = add_dsdt(out, machine);
    size_t fadt = add_fadt(out, gpa + dsdt);
    size_t madt = add_madt(out, machine->cpus);
    size_t xsdt = add_xsdt(out, gpa, fadt, madt);
    set(out, 24, gpa + xsdt, 8);
    sum(out, 0, 20, 8);
    sum(out, 0, 36, 32);
}
