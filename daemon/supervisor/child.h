/* SPDX-License-Identifier: Apache-2.0
 *
 * Child: one process of a role, started as systemd would start it: its sockets as
 * LISTEN_FDS, its user, no capabilities, no new privileges, an otherwise empty environment.
 */
#ifndef SUPERVISOR_CHILD_H
#define SUPERVISOR_CHILD_H

#include <ev.h>

#include "daemon/common/config.h"
#include "sockets.h"

/* What all children have in common. */
struct family;

struct child {
	struct family *family;
	enum role role;
	size_t backend; /* of a streamer */
	size_t worker;
	size_t handler; /* of a launcher */
	const struct config_user *user;
	char notify_path[CONFIG_PATH_MAX];
	int notify_fd; /* it reports here that it is ready */
	pid_t pid;     /* 0 while there is none */
	bool ready;
	bool hung;    /* and was killed for it */
	double pause; /* before the next start, seconds */
	ev_tstamp started;
	ev_io notified;
	ev_child exited;
	ev_timer restart;
	ev_timer watchdog; /* runs out when it has given no sign of life */
};

/* Start the process with these listening sockets. Returns its pid or -errno. */
pid_t child_start(const struct child *child, const char *libexec_dir, const int *listen_fds, size_t n_listen_fds);

#endif
