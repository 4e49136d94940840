// What the files that plan a config.json share.
#ifndef SANDBOX_PLAN_CONFIG_H
#define SANDBOX_PLAN_CONFIG_H

#include "plan.h"

// plan_config_mounts.c. First the binds, because a caller without rights has its child clone them before all else.
int plan_config_binds(struct sandbox_plan *plan, const struct sandbox_config *config, bool users, struct err *err);
int plan_config_mounts(struct sandbox_plan *plan, const struct sandbox_config *config, bool users, struct err *err);
// Mounts that can only be made while the host's tree is there: their options name paths of it, or they take the root's place.
bool plan_config_needs_host(const struct sandbox_config *config);
void plan_config_finish(struct sandbox_plan *plan, const struct sandbox_config *config);

#endif
