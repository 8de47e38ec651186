/* SPDX-License-Identifier: Apache-2.0
 *
 * Users: whether the processes can be what the configuration says they are.
 */
#ifndef SUPERVISOR_USERS_H
#define SUPERVISOR_USERS_H

#include <stdbool.h>

#include "daemon/common/config.h"

/* Started as root every role must have a user of its own, which is not root; started as somebody else every role stays
 * that. Logs what is wrong and returns false. */
bool users_check(const struct config *config);

#endif
