#include <errno.h>
#include <stdio.h>

#include "transfer/transfer.h"
#include "changes.h"
#include "platform.h"
#include "stage.h"
#include "base/clock.h"
#include "base/num.h"

// SOURCE_DATE_EPOCH makes an import reproducible: seconds since 1970.
static int import_time(char out[CLOCK_TEXT_SIZE], struct err *err)
{
    const char *fixed = getenv("SOURCE_DATE_EPOCH");
    uint64_t seconds;
    if (str_empty(fixed)) {
        clock_format(clock_wall_ns(), out);
        return 0;
    }
    if (!num_parse_u64(slice_of(fixed), INT64_MAX / NS_PER_S, &seconds))
        return err_set(err, ERR_INVALID_ARGUMENT, "SOURCE_DATE_EPOCH is not a time: %.32s", fixed);
    clock_format((int64_t)seconds * NS_PER_S, out);
    return 0;
}

static int write_config(struct stage *stage, const struct oci_image_config *config, char digest[72], struct err *err)
{
    _cleanup_json_ json_t *document = json_encode(&oci_image_config_table, config);
    _cleanup_free_ char *text = json_text(document);
    return stage_config(stage, text, strlen(text), digest, err);
}

static int fill_config(const struct transfer_import *options, struct arena *arena, struct oci_image_config *config,
                       struct err *err)
{
    char created[CLOCK_TEXT_SIZE];
    struct oci_platform platform;
    if (platform_parse(options->platform, arena, &platform, err) < 0 || import_time(created, err) < 0 ||
        changes_apply(&options->changes, &config->config, arena, err) < 0)
        return -1;
    const char *message = str_empty(options->message) ? "Imported from -" : options->message;
    config->created = arena_strdup(arena, created);
    config->comment = arena_strdup(arena, message);
    config->architecture = platform.architecture;
    config->os = platform.os;
    config->variant = platform.variant;
    config->rootfs.type = arena_strdup(arena, "layers");
    struct oci_history *history = json_list_add(&config->history, &oci_history_table, arena);
    history->created = config->created;
    history->comment = config->comment;
    return 0;
}

// A stream that was cut off is first of all that.
static int stage_layer(struct stage *stage, int input_fd, const struct transfer_url *url, size_t *layer, struct err *err)
{
    struct err cut_off = { 0 };
    if (!url)
        return stage_stream(stage, input_fd, NULL, 0, layer, err);
    int staged = stage_stream(stage, url->fd, "Importing", url->length, layer, err);
    fd_close(url->fd); // who still writes ends, and says so
    if (transfer_url_whole(url, &cut_off) < 0 && cut_off.number != EPIPE)
        return err_set(err, cut_off.class, "%s", cut_off.message);
    return staged;
}

int transfer_import(int input_fd, int staging_fd, const struct transfer_import *options, FILE *report, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_stage_ struct stage stage = STAGE_INIT;
    struct oci_image_config config = { 0 };
    struct strv references = { 0 };
    size_t layer;
    char digest[72];
    // Bad options are told before a large stream has been read.
    if (fill_config(options, &arena, &config, err) < 0 || stage_open(&stage, staging_fd, options->inflate_ratio, report, err) < 0 ||
        stage_layer(&stage, input_fd, options->url, &layer, err) < 0)
        return -1;
    strv_push_arena(&config.rootfs.diff_ids, &arena, stage.layers[layer].diff_id);
    if (!str_empty(options->reference))
        strv_push_arena(&references, &arena, options->reference);
    if (write_config(&stage, &config, digest, err) < 0)
        return -1;
    return stage_image(&stage, digest, &references, &layer, 1, NULL, err);
}
