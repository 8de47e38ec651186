/* SPDX-License-Identifier: Apache-2.0
 *
 * Gate: the launcher's listening socket and the gate's connections to it, by which
 * streamers are introduced. Nobody but the gate's uid may connect.
 */
#ifndef LAUNCHER_GATE_H
#define LAUNCHER_GATE_H

#include <ev.h>

#include "daemon/common/config.h"

/* Accept on fd (not owned). */
void gate_listen(struct ev_loop *loop, const struct config *config, int fd);

#endif
