// rooms: oci criu sandbox task spec kernel json base | jansson
// The two other documents that berth-oci reads: a process (`exec --process`) and limits (`update --resources`). Each text is
// tried as both.
#include <stdint.h>

#include "oci/oci_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void as_process(json_t *document)
{
    struct arena arena = { 0 };
    struct oci_process process;
    struct err err;
    oci_process_decode(document, &process, &arena, &err);
    arena_done(&arena);
}

static void as_limits(json_t *document)
{
    struct arena arena = { 0 };
    struct oci_resources resources;
    struct cgroup_limits limits;
    struct err err;
    if (oci_resources_decode(document, &resources, &arena, &err) == 0 &&
        resources_limits(document, &resources, &arena, &limits, &err) == 0)
        cgroups_devices(&resources.devices, &arena, &limits, &err);
    arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *document = NULL;
    struct err err;
    if (json_parse((const char *)data, size, &document, &err) == 0) {
        as_process(document);
        as_limits(document);
    }
    json_decref(document);
    return 0;
}
