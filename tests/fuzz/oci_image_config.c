// rooms: spec json base | jansson
// An image's configuration as a registry sent it: read, written, read again, written again: the two texts are the same.
#include <stdint.h>
#include <stdlib.h>

#include "spec/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *write_config(const struct oci_image_config *config)
{
    json_t *value = json_encode(&oci_image_config_table, config);
    char *text = json_text(value);
    json_decref(value);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = ARENA_INIT;
    struct oci_image_config config;
    struct err err;
    if (json_decode_text(&oci_image_config_table, (const char *)data, size, &config, &arena, NULL, &err) == 0) {
        char *first = write_config(&config);
        if (json_decode_text(&oci_image_config_table, first, strlen(first), &config, &arena, NULL, &err) < 0)
            abort();
        char *second = write_config(&config);
        if (strcmp(first, second) != 0)
            abort();
        free(first);
        free(second);
        for (size_t i = 0; i < config.rootfs.diff_ids.len; i++)
            oci_digest_valid(config.rootfs.diff_ids.items[i]);
    }
    arena_done(&arena);
    return 0;
}
