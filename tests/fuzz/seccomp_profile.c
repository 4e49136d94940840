// rooms: sandbox spec json kernel base | jansson
// Profile files come from users; what is accepted must be a program that ends in an answer.
#include "sandbox/seccomp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct filter_program program;
    static const uint32_t archs[] = { 0xc000003e, 0x40000003, 0xc00000b7 };
    struct err err = { 0 };
    if (seccomp_compile_text((const char *)data, size, size, &program, &err) < 0 || program.len == 0)
        return 0;
    for (uint32_t i = 0; i < 3 * 500; i++) {
        struct seccomp_data call = { .nr = (int)(i / 3), .arch = archs[i % 3], .args = { i, UINT64_MAX - i } };
        if (filter_run(&program, &call) == UINT32_MAX)
            __builtin_trap();
    }
    return 0;
}
