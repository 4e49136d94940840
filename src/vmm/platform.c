#include "vmm/platform.h"
#include "vmm/layout.h"

#define SLEEP_ENABLE 0x20
#define SLEEP_TYPE(value) ((value) >> 2 & 7)

static struct platform *of_keyboard(struct bus_device *device)
{
    return (struct platform *)(void *)((char *)device - offsetof(struct platform, keyboard));
}

static struct platform *of_sleep(struct bus_device *device)
{
    return (struct platform *)(void *)((char *)device - offsetof(struct platform, sleep));
}

// Status: input and output buffers are empty; sleep: no wake event.
static void read_idle(struct bus_device *device, uint64_t offset, void *data, unsigned size)
{
    memset(data, 0, size);
}

static void write_keyboard(struct bus_device *device, uint64_t offset, const void *data, unsigned size)
{
    struct platform *platform = of_keyboard(device);
    if (*(const uint8_t *)data == LAYOUT_RESET_VALUE)
        platform->ask(platform->context, PLATFORM_RESET);
}

static void write_sleep(struct bus_device *device, uint64_t offset, const void *data, unsigned size)
{
    struct platform *platform = of_sleep(device);
    uint8_t value = *(const uint8_t *)data;
    if (offset == 0 && (value & SLEEP_ENABLE) && SLEEP_TYPE(value) == LAYOUT_SLEEP_OFF)
        platform->ask(platform->context, PLATFORM_POWER_OFF);
}

static const struct bus_ops keyboard_ops = { "keyboard controller", read_idle, write_keyboard };
static const struct bus_ops sleep_ops = { "ACPI sleep registers", read_idle, write_sleep };

void platform_init(struct platform *platform, platform_fn *ask, void *context)
{
    *platform = (struct platform){ { &keyboard_ops }, { &sleep_ops }, ask, context };
}
