#include "base/pattern.h"

#include "base/buf.h"

#define PATTERN_MAX 256

static bool is_modest(const char *pattern)
{
    enum { GROUP_MAX = 16, COUNT_DIGITS_MAX = 2 };
    size_t groups = 0, counts = 0;
    for (const char *c = pattern; *c; c++) {
        groups += *c == '(';
        counts += *c == '{';
        if (*c == '{' && (strspn(c + 1, "0123456789") > COUNT_DIGITS_MAX ||
                          (strchr(c, ',') && strspn(strchr(c, ',') + 1, "0123456789") > COUNT_DIGITS_MAX)))
            return false;
        if (*c == '\\' && c[1] >= '0' && c[1] <= '9')
            return false;
    }
    return strlen(pattern) <= PATTERN_MAX && groups <= GROUP_MAX && counts <= 1;
}

int pattern_compile(const char *text, regex_t *out, struct err *err)
{
    _cleanup_buf_ struct buf plain = BUF_INIT(8 * PATTERN_MAX);
    bool any_case = str_starts(text, "(?i)");
    if (!is_modest(text))
        return err_set(err, ERR_INVALID_ARGUMENT, "pattern too complex: %.100s", text);
    for (const char *c = text + (any_case ? 4 : 0); *c; c++) {
        if (*c != '\\' || !c[1]) {
            buf_addc(&plain, *c);
            continue;
        }
        c++;
        if (*c == 'd')
            buf_adds(&plain, "[0-9]");
        else
            buf_addf(&plain, "\\%c", *c);
    }
    if (regcomp(out, buf_text(&plain), REG_EXTENDED | REG_NOSUB | (any_case ? REG_ICASE : 0)) != 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "bad pattern: %.100s", text);
    return 0;
}

bool pattern_fits(const regex_t *pattern, const char *subject)
{
    return regexec(pattern, subject, 0, NULL, 0) == 0;
}
