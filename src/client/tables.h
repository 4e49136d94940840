// The tables of flags that stand in files of their own, with their lengths, which other tables name.
#ifndef CLIENT_TABLES_H
#define CLIENT_TABLES_H

#include "client/client_private.h"

#define CONTAINER_FLAGS_LEN 103
#define RUN_FLAGS_LEN 3

extern const struct flag container_flags[CONTAINER_FLAGS_LEN], run_flags[RUN_FLAGS_LEN];

#endif
