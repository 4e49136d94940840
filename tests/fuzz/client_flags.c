// rooms: client http build json base | jansson threads
// A command line, words parted by NUL bytes, through the flags of `run` and into a request.
#include "client/tables.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct flag_tables tables = { { container_flags, run_flags }, { CONTAINER_FLAGS_LEN, RUN_FLAGS_LEN } };
    struct client client = { .api = 47 };
    struct call call = { .client = &client, .name = "run" };
    struct slice word, rest = { (const char *)data, size };
    struct buf query = BUF_INIT(65536);
    char *argv[64];
    int argc = 0;
    bool help = false;
    json_t *body = NULL;
    call.flags.arena = &call.arena;
    while (argc < 64 && slice_cut(&rest, 0, &word))
        argv[argc++] = arena_strndup(&call.arena, word.data, word.size);
    if (flags_parse(&call.flags, &tables, argv, argc, true, &call.args, &help, NULL) == 0 && call.args.len) {
        flags_to_query(&call.flags, &query);
        struct err err;
        bool reads_files = flag_set(&call.flags, "env-file") || flag_set(&call.flags, "label-file") || flag_set(&call.flags, "security-opt");
        if (!reads_files && container_body(&call, &body, &err) == 0)
            json_decref(body);
    }
    buf_done(&query);
    json_decref(client.config);
    arena_done(&call.arena);
    return 0;
}
