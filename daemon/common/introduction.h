/* SPDX-License-Identifier: Apache-2.0
 *
 * Introduction: the listening socket of a role that serves streamers (dialer, launcher), and the gate's connections to
 * it, by which streamers are introduced. Nobody but the gate's uid may connect; its pings are answered.
 */
#ifndef HANDOFFD_INTRODUCTION_H
#define HANDOFFD_INTRODUCTION_H

#include <ev.h>

#include "config.h"

/* Whom the gate meets here. */
struct introduction {
	enum role self;
	enum message_type ping, pong; /* of this role */
	/* A streamer; fd, one end of the channel to it, is the callee's in any case. 0 or -errno. */
	int (*introduced)(struct ev_loop *loop, const struct config *config, uint32_t backend, uint32_t worker, int fd);
};

/* Accept on fd (not owned). Call it once; all three must stay. */
void introduction_listen(struct ev_loop *loop, const struct config *config, int fd,
                         const struct introduction *introduction);

#endif
