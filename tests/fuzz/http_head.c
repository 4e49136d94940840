// rooms: http base
// Bytes from a control socket: heads of both kinds, then chunks, as server and client walk over them.
#include "http/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk_chunks(struct slice rest)
{
    struct slice part;
    size_t used;
    while (http_parse_chunk(rest, &part, &used, NULL) == 1) {
        if (used > rest.size || part.size > used)
            abort();
        rest = (struct slice){ rest.data + used, rest.size - used };
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice bytes = { (const char *)data, size };
    for (enum http_kind kind = HTTP_REQUEST; kind <= HTTP_RESPONSE; kind++) {
        struct http_head head;
        if (http_parse_head(kind, bytes, &head, NULL) != 1)
            continue;
        if (head.size > size || head.body_size > HTTP_BODY_MAX || head.path.size + head.query.size > head.size)
            abort();
        if (head.chunked)
            walk_chunks((struct slice){ bytes.data + head.size, size - head.size });
    }
    walk_chunks(bytes);
    return 0;
}
