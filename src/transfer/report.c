#include <errno.h>

#include "transfer/transfer.h"
#include "report.h"

int report_line(FILE *report, const char *key, json_t *value, struct err *err)
{
    json_t *line = json_object();
    json_object_set_new(line, key, value);
    flockfile(report); // layers are staged by several threads
    bool written = json_dumpf(line, report, JSON_COMPACT) == 0 && fputc('\n', report) != EOF && fflush(report) != EOF;
    int number = errno ? errno : EIO;
    funlockfile(report);
    json_decref(line);
    return written ? 0 : err_errno(err, number, "write report");
}

int report_progress(FILE *report, const char *id, const char *status, int64_t current, int64_t total, struct err *err)
{
    return report_line(report, "progress", json_pack("{s:s, s:s, s:I, s:I}", "id", id, "status", status, "current",
                                                     (json_int_t)current, "total", (json_int_t)total), err);
}

// Names in messages are an archive's bytes: what is not UTF-8 shows as "?".
static json_t *readable(const char *text)
{
    json_t *value = json_string(text);
    if (value)
        return value;
    _cleanup_free_ char *plain = mem_strdup(text);
    for (char *at = plain; *at; at++)
        if ((unsigned char)*at >= 0x80)
            *at = '?';
    return json_string(plain);
}

void transfer_report_error(FILE *report, const struct err *err)
{
    report_line(report, "error", json_pack("{s:s, s:i, s:o}", "class", err_class_name(err->class), "errno", err->number,
                                           "message", readable(err->message)), NULL);
}
