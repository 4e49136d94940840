// Shared by the parsers of heads.
#ifndef HTTP_HTTP_PRIVATE_H
#define HTTP_HTTP_PRIVATE_H

#include "http/http.h"

// Cuts a line off *rest; it must end in CR LF, which is not part of it.
bool http_cut_line(struct slice *rest, struct slice *line);
// Compared without regard to case.
bool http_same_word(struct slice a, const char *b);

#endif
