// The few ports besides the serial one: the keyboard controller's reset pulse, which is also the reset register of the FADT,
// and the ACPI sleep registers. What a guest asks for there goes to `ask`, in the vCPU's thread.
#ifndef VMM_PLATFORM_H
#define VMM_PLATFORM_H

#include "vmm/bus.h"

enum platform_request { PLATFORM_RESET, PLATFORM_POWER_OFF };

typedef void platform_fn(void *context, enum platform_request request);

struct platform {
    struct bus_device keyboard, sleep; // one port; two
    platform_fn *ask;
    void *context;
};

void platform_init(struct platform *platform, platform_fn *ask, void *context);

#endif
