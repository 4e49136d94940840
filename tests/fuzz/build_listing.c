// rooms: build json base | jansson
// A list's file: what is taken is in order, is the same when written again, and says the same of itself as of its copy.
#include <stdint.h>
#include <stdlib.h>

#include "build/listing.h"

#define MARK "fuzz"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_copy(const void *data, size_t size, struct listing *out)
{
    char *copy = mem_alloc(size + 1);
    memcpy(copy, data, size);
    return listing_read(copy, size, MARK, out, NULL);
}

static void count(void *of, const struct buf *record, const unsigned char *digest)
{
    ++*(size_t *)of;
}

static void ask(const struct listing *listing)
{
    static const char *const paths[] = { "*", "/", "*/*" };
    size_t len = 0;
    for (size_t i = 0; i < listing->len; i++)
        if (listing_find(listing, listing->items[i].path) != &listing->items[i])
            abort();
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        listing_sources(listing, &(struct listing_wish){ &paths[i], 1, true }, count, &len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct listing one, other;
    if (size > 1 << 16 || read_copy(data, size, &one) < 0)
        return 0;
    struct buf text = BUF_INIT(1 << 20);
    struct strv removed = { 0 };
    ask(&one);
    listing_write(&one, MARK, &text);
    if (read_copy(text.data, text.size, &other) < 0 || other.len != one.len)
        abort();
    size_t fresh = listing_compare(&one, &other, &removed);
    if (removed.len > 0 || fresh > one.len)
        abort();
    strv_done(&removed);
    buf_done(&text);
    listing_done(&one);
    listing_done(&other);
    return 0;
}
