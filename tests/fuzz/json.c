// rooms: json base | jansson
// A client's body: parsed, written, and what was written parses to the same again.
#include <stdint.h>
#include <stdlib.h>

#include "json/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = { 0 };
    json_t *first;
    if (json_parse((const char *)data, size, &first, &err) < 0)
        return 0;
    char *text = json_text(first);
    json_t *second;
    if (json_parse(text, strlen(text), &second, &err) < 0 || !json_equal(first, second))
        abort();
    free(text);
    json_decref(first);
    json_decref(second);
    return 0;
}
