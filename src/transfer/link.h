// The socket between the two halves of a pull: one message each, of a kind, with at most one descriptor. The half that has the blobs (it
// speaks to a registry, or is one) sends; the jailed half believes nothing of it.
#ifndef TRANSFER_LINK_H
#define TRANSFER_LINK_H

#include <stdint.h>

#include "base/err.h"

enum link_kind {
    LINK_TOP, // a memfd with what the reference names
    LINK_MANIFEST, // a memfd with the image's manifest, unless that is the same
    LINK_CONFIG, // a memfd with its configuration
    LINK_KNOWN, // the store has layer `position`, of `size` bytes
    LINK_LAYER, // a pipe, or a file, with the blob of layer `position`
    LINK_ERROR, // `err`; the last message
    LINK_END, // all is sent
};

struct link_message {
    enum link_kind kind;
    uint32_t position;
    int64_t size;
    struct err err;
};

#endif
