/* SPDX-License-Identifier: Apache-2.0
 *
 * Layers: the parts of a role's cage, each alone. What a layer does is the product's own code and the role's own
 * policy; the choice is here.
 */
#ifndef TESTS_REDTEAM_LAYERS_H
#define TESTS_REDTEAM_LAYERS_H

#include <stdbool.h>

#include "daemon/common/config.h"

/* The environment's REDTEAM_LAYERS: names separated by commas, or "whole". */
struct layers {
	bool whole;
	bool user;       /* the user of the role and no more: a baseline, no layer */
	bool privileges; /* the user of the role, no group besides, no capability in any set */
	bool no_new_privs;
	bool seccomp;
	bool landlock;
	bool rlimits;
	bool process; /* not dumpable, MDWE */
};

void layers_from_environment(struct layers *layers);
/* Put them in force; ends the process where that fails. */
void layers_apply(const struct layers *layers, const char *role, const struct config_user *user);

#endif
