// ACPI machine language, as much as our DSDT needs. Packages nest: begin returns a mark, end fills in the length.
#ifndef VMM_ACPI_AML_H
#define VMM_ACPI_AML_H

#include "base/buf.h"

size_t aml_scope(struct buf *out, const char *path); // four characters a segment; "\\_SB_"
size_t aml_device(struct buf *out, const char *name);
size_t aml_method(struct buf *out, const char *name, unsigned args);
void aml_end(struct buf *out, size_t mark);

void aml_name_string(struct buf *out, const char *name, const char *text); // Name(name, "text")
void aml_name_integer(struct buf *out, const char *name, uint32_t value);
void aml_name_eisa(struct buf *out, const char *name, const char *id); // Name(name, EisaId("PNP0501"))
void aml_name_package(struct buf *out, const char *name, const uint8_t *bytes, unsigned len); // of small integers
void aml_notify(struct buf *out, const char *path, uint8_t value);

// Resources of a device: between begin and end, in any order.
size_t aml_resources(struct buf *out); // Name(_CRS, ResourceTemplate() {
void aml_resource_memory(struct buf *out, uint32_t base, uint32_t size);
void aml_resource_ports(struct buf *out, uint16_t base, uint8_t len);
void aml_resource_interrupt(struct buf *out, uint32_t gsi); // edge, active high, exclusive
void aml_resources_end(struct buf *out, size_t mark);

#endif
