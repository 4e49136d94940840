// The flags in front of the command, and the groups of commands.
#ifndef CLIENT_GLOBALS_H
#define CLIENT_GLOBALS_H

#include "client/client_private.h"

extern const struct flag_tables global_flags;

struct group {
    const char *name, *help;
    const char *why; // known and not built; NULL: its commands are in the table
};
extern const struct group groups[];
extern const size_t groups_len;

const char *group_why(const char *name);
const struct command *command_find(const char *words); // "container ls", "ps"
const char *flag_suggestion(const struct flag_tables *tables, const char *word);

#endif
