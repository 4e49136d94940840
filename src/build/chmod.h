// --chmod in its symbolic form, as chmod(1) has it: "u=rwX,go=rX", "a+x", "go=u-w".
//
// Without a letter for whom, it is for all but what a umask of 022 keeps back, as with BuildKit. 'X' is 'x' for folders, and for files that
// somebody could execute before.
#ifndef BUILD_CHMOD_H
#define BUILD_CHMOD_H

#include <stdbool.h>
#include <stdint.h>

// What a file's permissions (07777) become. False: the text is none of that form, and *mode is as it was.
bool chmod_apply(const char *text, bool folder, uint32_t *mode);

#endif
