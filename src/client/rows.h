// Rows that more than one command prints.
#ifndef CLIENT_ROWS_H
#define CLIENT_ROWS_H

#include "client/client_private.h"

typedef json_t *row_fn(const json_t *object, bool no_trunc); // a new row

json_t *container_row(const json_t *container, bool no_trunc);
extern const struct column container_columns[], image_columns[], volume_columns[];
extern const size_t container_columns_len, image_columns_len, volume_columns_len;
json_t *volume_row(const json_t *volume, bool no_trunc);
json_t *image_row(const json_t *image, const char *repository, const char *tag, const char *digest, bool no_trunc);

int check_list(const json_t *answer, struct err *err); // null is an empty one
// A list as the daemon answered it, row by row.
int print_rows(const struct list *list, const json_t *objects, row_fn *row, bool no_trunc, struct err *err);
void put_filters(const struct call *call, struct buf *path); // --filter into filters=
void put_labels(json_t *row, const json_t *labels);
void put_age(json_t *row, const char *key, int64_t unix_time);
void put_time_text(json_t *row, const char *key, int64_t unix_ns);

#endif
