// What climbs, lies or breaks a bound: refused by every writer of layers, with the entry's name.
#ifndef TESTS_LAYER_REFUSED_H
#define TESTS_LAYER_REFUSED_H

#include "tar_maker.h"

#define TEN "nnnnnnnnnn"
#define NAME_OF_300 TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

static const struct refused {
    struct tar_entry entries[3];
    const char *message;
} refused_cases[] = {
    { { { .name = "../out" } }, "layer entry ../out: leads outside the layer" },
    { { { .name = "a/../../out" } }, "layer entry a/../../out: leads outside the layer" },
    { { { "..", .type = '5' } }, "layer entry ..: leads outside the layer" },
    { { { .name = "/../out" } }, "layer entry /../out: leads outside the layer" },
    { { { "h", .type = '1', .link = "../../etc/passwd" } }, "hard link to ../../etc/passwd: leads outside" },
    { { { "h", .type = '1', .link = "/etc/passwd" } }, "layer entry h: hard link to /etc/passwd" },
    { { { "h", .type = '1', .link = "." } }, "hard link to a folder" },
    { { { "d", .type = '5' }, { "h", .type = '1', .link = "d" } }, "layer entry h: hard link to d" },
    { { { "out", .type = '2', .link = "/" }, { "h", .type = '1', .link = "out/etc/passwd" } }, "hard link to out/etc" },
    { { { .name = ".wh..." } }, "leads outside the layer" },
    { { { .name = "a/.wh..." } }, "leads outside the layer" },
    { { { .name = ".wh.." } }, "leads outside the layer" },
    { { { .name = ".wh." } }, "leads outside the layer" },
    { { { .name = ".wh.a/b" } }, "lies below a whiteout" },
    { { { "x", .pax = "path=" NAME_OF_300 "\n" } }, "file name too long" },
    { { { "x", .pax = "uid=4294967295\n" } }, "is out of range" },
    { { { "x", .pax = "gid=-1\n" } }, "is out of range" },
    { { { .name = "f" }, { .name = "f/x" } }, "layer entry f/x: " },
    { { { .name = ".wh.f" }, { .name = "f/x" } }, "layer entry f/x: " },
    { { { "loop", .type = '2', .link = "loop" }, { .name = "loop/x" } }, "layer entry loop/x: " },
    { { { "s", .type = '2', .link = "" } }, "symlink without a target" },
    { { { "x", .data = "startend.",
          .pax = "GNU.sparse.size=2003\nGNU.sparse.numblocks=2\nGNU.sparse.map=0,5,2000,4\nGNU.sparse.name=y\n" } },
      "layer entry y: has content behind its end" },
    { { { "x", .data = "startend.", // pieces that overlap: which of them wins, and where would the other one's bytes be kept?
          .pax = "GNU.sparse.size=9000\nGNU.sparse.numblocks=2\nGNU.sparse.map=0,5,2,4\nGNU.sparse.name=y\n" } },
      "layer entry y: damaged sparse map" },
};

#endif
