// errdefs.Source of BuildKit: the Dockerfile and the lines in question, of which clients print an excerpt. It travels as a detail of the failure's status.
#include "buildkit_private.h"

#define SHOWN_MAX ((size_t)1 << 20) // bytes of a Dockerfile

static json_t *position(unsigned line)
{
    return json_pack("{s:i}", "line", (int)line);
}

char *failure_source(const struct buildkit_built *built, const char *filename)
{
    if (built->line == 0 || built->dockerfile.size > SHOWN_MAX)
        return NULL;
    _cleanup_json_ json_t *source = json_pack("{s:{s:s, s:o, s:s}, s:[{s:o, s:o}]}", "info", "filename", filename, "data", encoded_text(built->dockerfile), "language",
                                              "Dockerfile", "ranges", "start", position(built->line), "end", position(MAX_OF(built->line, built->last_line)));
    return source ? json_dumps(source, JSON_COMPACT) : NULL;
}
