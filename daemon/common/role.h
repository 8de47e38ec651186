/* SPDX-License-Identifier: Apache-2.0
 *
 * Role start: what every role's main does, in this order:
 *
 *     role_begin      environment emptied, log opened, configuration read, only expected descriptors left
 *     (own)           secrets read, libraries initialised
 *     role_confine    uid, groups, capabilities, no_new_privs; listen() again on inherited sockets, so that peers see
 *                     our credentials, not our starter's; dumpable, rlimits, Landlock, seccomp
 *     role_ready      tell systemd or the supervisor
 *     (own)           event loop
 *
 * Each step ends the process with a clear line when it fails: a role that is not caged does not run.
 */
#ifndef HANDOFFD_ROLE_H
#define HANDOFFD_ROLE_H

#include <ev.h>

#include "config.h"

/* Command line of every role: -c FILE, from the supervisor -g GENERATION (config.h), and for a streamer -b BACKEND
 * (name) and -n WORKER, or both as -i BACKEND-WORKER; for a launcher -H HANDLER (name), or -i HANDLER. */
struct role_context {
	enum role role;
	struct config *config;
	size_t backend; /* streamer: number of its backend section */
	size_t worker;
	size_t handler;  /* launcher: number of its handler section */
	int *listen_fds; /* inherited listening sockets (LISTEN_FDS), CLOEXEC and non-blocking, in order */
	size_t n_listen_fds;
};

void role_begin(struct role_context *context, enum role role, int argc, char **argv);

/* The inherited listening socket bound to this path, or fatal(). */
int role_listen_fd(const struct role_context *context, const char *path);

/* Drop everything. user is whom to become when started as root, backlog what the inherited sockets hold. No policy
 * grants listen(): a socket that was never bound gets a port by it, which Landlock does not see. */
void role_confine(const struct role_context *context, const struct config_user *user, int backlog);

/* Apply a policy by name and say in the log what is in force: the last step of role_confine(), and the supervisor's
 * cage. already_off: what earlier steps could not do, "" for nothing. */
void role_cage(const char *name, const struct config *config, const char *already_off);

/* sd_notify READY=1 (NOTIFY_SOCKET was opened and connected in role_begin), and from now on WATCHDOG=1 while the loop
 * runs, when our starter waits for it (WATCHDOG_USEC). */
void role_ready(const struct role_context *context, struct ev_loop *loop);
/* sd_notify STOPPING=1. */
void role_stopping(const struct role_context *context);

/* The uid a role must have according to the configuration; our own effective uid when it names none. */
uid_t role_expected_uid(const struct config_user *user);

#endif
