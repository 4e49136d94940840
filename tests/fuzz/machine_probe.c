// rooms: engine volume net image task store spec kernel json base | jansson sqlite3 gnutls libnl-3.0 libnl-route-3.0 libmnl threads
// What berth-vmm --probe says: a yes has machines in it, a no its reason.
#include <stdint.h>
#include <stdlib.h>

#include "engine/machine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = ARENA_INIT;
    char why[ERR_MESSAGE_SIZE];
    bool runs;
    const char *text = arena_strndup(&arena, (const char *)data, size);
    bool understood = machine_parse_probe(text, &runs, why);
    if (understood && (runs ? !strstr(text, "machines:") : !why[0]))
        abort();
    if (strnlen(why, sizeof(why)) == sizeof(why))
        abort();
    arena_done(&arena);
    return 0;
}
