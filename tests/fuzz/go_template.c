// rooms: client http json base | jansson threads
// A template, and behind a NUL byte the JSON it is run on: what --format is given and what a daemon answers.
#include "client/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct template *template = NULL;
    struct buf out = BUF_INIT(65536);
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    size_t len = end ? (size_t)(end - data) : size;
    char *text = mem_strndup((const char *)data, len);
    json_t *root = NULL;
    if (len < size)
        json_parse((const char *)data + len + 1, size - len - 1, &root, NULL);
    if (!root)
        root = json_pack("{s:s, s:[s, i], s:{s:s}}", "Name", "x", "List", "a", 1, "Labels", "k", "v");
    if (template_parse("fuzz", text, &template, NULL) == 0) {
        struct template_data data_of = { .root = root, .labels = json_object_get(root, "Labels"), .type = size & 1 ? "*row" : NULL, .header = size & 2 };
        template_run(template, &data_of, &out, NULL);
        template_uses(template, "Name");
        template_free(template);
    }
    json_decref(root);
    buf_done(&out);
    free(text);
    return 0;
}
