#include "base/slice.h"
#include "guest_private.h"

static const struct {
    const char *word;
    enum guest_transport transport;
} transports[] = { { "serial", GUEST_SERIAL }, { "vsock", GUEST_VSOCK } };

int cmdline_transport(const char *cmdline, enum guest_transport *out, struct err *err)
{
    static const char key[] = "berth.link=";
    struct slice rest = slice_trim(slice_of(cmdline)), word, found = { 0 };
    while (slice_cut(&rest, ' ', &word)) {
        if (slice_starts(word, key))
            found = (struct slice){ word.data + sizeof(key) - 1, word.size - sizeof(key) + 1 };
    }
    for (size_t i = 0; found.data && i < ARRAY_LEN(transports); i++) {
        if (!slice_eq(found, transports[i].word))
            continue;
        *out = transports[i].transport;
        return 0;
    }
    if (!found.data)
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "the kernel's command line has no berth.link=serial or berth.link=vsock");
    return err_set(err, ERR_INVALID_ARGUMENT, "berth.link=%.*s: not serial or vsock",
                   (int)MIN_OF(found.size, (size_t)64), found.data);
}
