/* SPDX-License-Identifier: Apache-2.0
 *
 * Introductions: only the gate connects. It gives each streamer whose backend has an
 * upstream one end of a socket pair, and the dialer the other, tagged with the backend; or, where the backend has a
 * handler, its launcher; again whenever one of the two is new.
 */
#ifndef GATE_INTRODUCE_H
#define GATE_INTRODUCE_H

#include "daemon/common/list.h"
#include "gate.h"

/* Make the pools with their streamers, the dialer and the launchers, unconnected. May fail: call it before the cage
 * closes. Returns 0, -ENOMEM or -ENAMETOOLONG. on_room is the pools'. */
int introduce_init(struct gate *gate, void (*on_room)(struct list *node));

/* Connect to all of them, and stay connected. settled is called once: when all are there, or when waiting for the rest
 * has lasted long enough. */
void introduce_start(struct gate *gate, void (*settled)(struct gate *gate));

void introduce_stop(struct gate *gate);

#endif
