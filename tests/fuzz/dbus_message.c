// rooms: kernel base
// What a bus sends: parsed, its body read as texts and numbers until nothing is left.
#include "kernel/dbus_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dbus_message message;
    struct err err = { 0 };
    if (dbus_message_parse(data, size, &message, &err) < 0)
        return 0;
    const char *texts[] = { message.path, message.interface, message.member, message.error_name, message.sender, message.signature };
    size_t sum = 0;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        sum += strlen(texts[i]); // each ends inside the message
    if (sum > size)
        __builtin_trap();
    struct dbus_reader copy = message.body;
    for (size_t i = 0; !copy.failed && i < size; i++)
        sum += i % 3 ? strlen(dbus_get_text(&copy)) : dbus_get_u32(&copy);
    copy = message.body;
    while (!copy.failed && copy.at < copy.size)
        sum += strlen(dbus_get_signature(&copy)) + dbus_get_u8(&copy);
    return 0;
}
