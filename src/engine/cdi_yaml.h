// The part of YAML that says what JSON can (cdi_yaml.c, by libyaml).
#ifndef ENGINE_CDI_YAML_H
#define ENGINE_CDI_YAML_H

#include "base/slice.h"
#include "json/json.h"

// The text's first document; the caller's. NULL with invalid_argument and the line.
json_t *yaml_as_json(struct slice text, struct err *err);

#endif
