// rooms: vmm base | liblz4 liblzma libzstd zlib threads
// A kernel file that says it is packed: parsed, and unpacked where it asks for little.
#include <stdint.h>
#include <stdlib.h>

#include "vmm/boot.h"

#define UNPACK_MAX (1u << 20) // larger ones are the same with more waiting

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct boot_file file = { data, size };
    struct boot_bzimage image;
    struct err err;
    if (boot_bzimage_parse(file, &image, &err) < 0) {
        if (err.class != ERR_INVALID_ARGUMENT && err.class != ERR_NOT_IMPLEMENTED)
            abort();
        return 0;
    }
    if (!boot_bzimage_is(file) || image.offset > size || image.size > size - image.offset || image.vmlinux_size > BOOT_FILE_MAX)
        abort();
    if (image.vmlinux_size > UNPACK_MAX)
        return 0;
    uint8_t *out = mem_alloc(image.vmlinux_size);
    if (boot_bzimage_unpack(file, &image, out, &err) < 0 && err.class != ERR_INVALID_ARGUMENT)
        abort();
    free(out);
    return 0;
}
