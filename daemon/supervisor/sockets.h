/* SPDX-License-Identifier: Apache-2.0
 *
 * Sockets: the runtime directory and the unix sockets in it and elsewhere.
 */
#ifndef SUPERVISOR_SOCKETS_H
#define SUPERVISOR_SOCKETS_H

#include <stdbool.h>
#include <sys/types.h>

#include "daemon/common/config.h"

struct socket_file {
	char path[CONFIG_PATH_MAX];
	int type; /* SOCK_SEQPACKET, SOCK_STREAM or SOCK_DGRAM */
	uid_t uid;
	gid_t gid;
	mode_t mode;
};

/* Make the runtime directory, or check that the one there is ours alone, and lock it against a second supervisor.
 * Returns 0 or -errno, with the error logged. */
int runtime_dir_open(const char *path);

/* Reloads have numbers, from 1 on. */
struct reloads {
	unsigned begun;  /* the last */
	unsigned done;   /* the last by which everything was replaced: no gate from before it runs */
	unsigned failed; /* the last that changed nothing */
};

/* Write into the lock who holds it and how far it has come, for handoffctl: `PID BEGUN DONE FAILED`. Until the first
 * time there is nothing in it. */
void runtime_dir_note(const struct reloads *reloads);

/* Remove what runtime_dir_open() made. */
void runtime_dir_close(const char *path);

/* Make a socket file and return its socket (CLOEXEC, non-blocking), or -errno with the error logged. A socket that was
 * left behind at its path is replaced; anything else there is an error. Its role is the first to listen() on it: until
 * then a client is refused by the kernel and tries again, where our own listen() would show it our uid. */
int socket_make(const struct socket_file *file);

/* The socket fd is bound to this path already: only give the file its owner and mode. Returns fd, or -errno with the
 * error logged, and fd closed. */
int socket_give(const struct socket_file *file, int fd);

/* Remove a socket file, but nothing that is not a socket. Returns 0, also when there was none, or -errno. */
int socket_remove(const char *path);

#endif
