/* SPDX-License-Identifier: Apache-2.0
 *
 * Family: all processes of handoffd: starting them, starting again those that crash,
 * telling when all are ready, and stopping them.
 *
 * The listeners of the configuration stay open here, so that a restart of the gate loses
 * no connection. The internal sockets are made anew for each start of their role: while it is away nobody can
 * connect, and the gate turns to the other workers of the pool.
 */
#ifndef SUPERVISOR_FAMILY_H
#define SUPERVISOR_FAMILY_H

#include <ev.h>

#include "child.h"

struct family {
	struct ev_loop *loop;
	const struct config *config;
	const char *libexec_dir;
	int own_notify_fd; /* where the supervisor itself reports, or -1 */
	struct child *children;
	size_t n_children;
	int listen_fds[CONFIG_SECTIONS_MAX];
	bool was_ready;
	bool stopping;
	bool failed; /* a role could not start: the exit status says so */
	ev_timer patience;
};

/* Make the listeners and start all roles. Returns 0 or -errno, with the error logged; then family_remove() is still
 * due. */
int family_start(struct family *family);

/* Pass a signal on to all roles. */
void family_signal(struct family *family, int number);

/* Ask all roles to end, and make them end after a while; the event loop is left when the last has gone. */
void family_stop(struct family *family);

/* Remove all socket files. */
void family_remove(struct family *family);

#endif
