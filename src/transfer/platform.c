#include <ctype.h>
#include <sys/utsname.h>

#include "platform.h"
#include "base/slice.h"

static const struct {
    const char *machine, *architecture;
} architectures[] = {
    { "x86_64", "amd64" },   { "aarch64", "arm64" }, { "armv7l", "arm" },  { "i686", "386" },
    { "riscv64", "riscv64" }, { "ppc64le", "ppc64le" }, { "s390x", "s390x" },
};

const char *platform_host_architecture(void)
{
    struct utsname host;
    uname(&host);
    for (size_t i = 0; i < ARRAY_LEN(architectures); i++)
        if (str_eq(architectures[i].machine, host.machine))
            return architectures[i].architecture;
    return "";
}

static bool is_architecture(const char *word)
{
    for (size_t i = 0; i < ARRAY_LEN(architectures); i++)
        if (str_eq(architectures[i].architecture, word))
            return true;
    return false;
}

// What uname and others say, in the words of the image spec.
static const char *usual_architecture(const char *word)
{
    for (size_t i = 0; i < ARRAY_LEN(architectures); i++)
        if (str_eq(architectures[i].machine, word))
            return architectures[i].architecture;
    return word;
}

static bool word_valid(const char *word)
{
    for (const char *at = word; *at; at++)
        if (!isalnum((unsigned char)*at) && !strchr("_.-", *at))
            return false;
    return *word;
}

int platform_parse(const char *text, struct arena *arena, struct oci_platform *out, struct err *err)
{
    char *words[3] = { NULL, NULL, NULL };
    struct slice rest = slice_of(text ? text : ""), part;
    *out = (struct oci_platform){ .os = arena_strdup(arena, "linux"),
                                  .architecture = arena_strdup(arena, platform_host_architecture()) };
    if (str_empty(text))
        return 0;
    size_t len = 0;
    for (; len < ARRAY_LEN(words) && slice_cut(&rest, '/', &part); len++) {
        words[len] = arena_strndup(arena, part.data, part.size);
        for (char *at = words[len]; *at; at++)
            *at = (char)tolower((unsigned char)*at);
        if (!word_valid(words[len]))
            return err_set(err, ERR_INVALID_ARGUMENT, "\"%.64s\" is an invalid platform", text);
    }
    if (rest.data)
        return err_set(err, ERR_INVALID_ARGUMENT, "\"%.64s\" is an invalid platform", text);
    const char *architecture = len == 1 ? usual_architecture(words[0]) : words[1] ? usual_architecture(words[1]) : "";
    if (len == 1 && !is_architecture(architecture))
        architecture = out->architecture; // an os alone
    else if (len == 1)
        words[0] = out->os;
    if (!str_eq(words[0], "linux"))
        return err_set(err, ERR_INVALID_ARGUMENT, "operating system is not supported: %.64s", words[0]);
    out->architecture = arena_strdup(arena, architecture);
    out->variant = words[2];
    return 0;
}
