// Names of repositories and tags, by the specification's grammar:
//
//     name := component ("/" component)*        component := [a-z0-9]+ (("." | "_" | "__" | "-"+) [a-z0-9]+)*
//     tag  := [a-zA-Z0-9_] [a-zA-Z0-9._-]{0,127}
#include "registry_private.h"

#define TAG_SIZE_MAX 128

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

// The length of a separator at the start of `text`, 0: none.
static size_t separator_size(const char *text)
{
    if (*text == '.')
        return 1;
    if (*text == '_')
        return text[1] == '_' ? 2 : 1;
    return strspn(text, "-");
}

static bool component_valid(const char **at)
{
    for (;;) {
        if (!is_word(**at))
            return false;
        while (is_word(**at))
            (*at)++;
        size_t separator = separator_size(*at);
        if (separator == 0)
            return true;
        *at += separator;
    }
}

bool name_valid(const char *name)
{
    const char *at = name;
    if (strlen(name) > NAME_SIZE_MAX)
        return false;
    while (component_valid(&at)) {
        if (!*at)
            return true;
        if (*at++ != '/')
            return false;
    }
    return false;
}

bool tag_valid(const char *tag)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    size_t size = strlen(tag);
    return size > 0 && size <= TAG_SIZE_MAX && strspn(tag, letters) == size && *tag != '.' && *tag != '-';
}
