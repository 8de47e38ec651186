/* SPDX-License-Identifier: Apache-2.0
 *
 * Family: all processes that serve one configuration: starting them, starting again those that crash, telling when all
 * are ready, and stopping them.
 *
 *     STARTING   the other roles, then the gate, so that whatever it takes finds a streamer
 *     RUNNING    all were ready once; what ends is started again
 *     RETIRING   another family has taken over: gate, streamers, then dialer and launchers end, streams in their own
 * time STOPPING   all end together, but the launchers after the streamers whose programs they hold
 *
 * The listeners of the configuration stay open here, so that a restart of the gate loses no connection, and a later
 * family has them too. The internal sockets are made anew for each start of their role: while it is away
 * nobody can connect, and the gate turns to the other workers of the pool.
 */
#ifndef SUPERVISOR_FAMILY_H
#define SUPERVISOR_FAMILY_H

#include <ev.h>

#include "child.h"

enum family_state { FAMILY_STARTING, FAMILY_RUNNING, FAMILY_RETIRING, FAMILY_STOPPING };

struct family {
	struct ev_loop *loop;
	const struct config *config;
	const char *libexec_dir;
	struct child *children; /* the gate first */
	size_t n_children;
	int listen_fds[CONFIG_SECTIONS_MAX];
	enum family_state state;
	bool failed;                             /* a role could not start */
	void (*on_ready)(struct family *family); /* all are */
	void (*on_gate_gone)(
	    struct family *family);             /* another has taken over, and this one takes no handoffs any more */
	void (*on_gone)(struct family *family); /* the last process has ended; it may family_free() */
	ev_timer patience;
};

/* A family without processes. NULL: no memory. */
struct family *family_new(struct ev_loop *loop, const struct config *config, const char *libexec_dir);

/* Make the listeners, or take over those that the predecessor (NULL: none) has, and start all roles. Returns 0 or
 * -errno, with the error logged; then family_free() is still due. */
int family_start(struct family *family, const struct family *predecessor);

/* Pass a signal on to all roles. */
void family_signal(struct family *family, int number);

/* Another family serves now: let the streams of this one end. */
void family_retire(struct family *family);

/* Ask all roles to end, and make them end after a while. on_gone() follows, at once when there are none. */
void family_stop(struct family *family);

/* Remove its socket files, but not those that the successor (NULL: none) has too, and its memory. */
void family_free(struct family *family, const struct family *successor);

#endif
