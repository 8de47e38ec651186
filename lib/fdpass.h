/* SPDX-License-Identifier: Apache-2.0
 *
 * Passing descriptors over unix sockets, strictly: room is offered for exactly the
 * descriptors that are allowed, everything that arrives is walked, and on any
 * violation all of it is closed.
 */
#ifndef HANDOFF_FDPASS_H
#define HANDOFF_FDPASS_H

#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bytes.h"

#define FDPASS_MAX 4

/* Close *fd when it is open and make it -1. Keeps errno. */
void fd_close(int *fd);
/* For local variables: int fd FD_CLEANUP = -1; */
#define FD_CLEANUP __attribute__((cleanup(fd_close)))

/* Close fds[0..n) as fd_close() does. */
void fd_close_all(int *fds, size_t n);

/* Send one message with descriptors (which stay the caller's), MSG_NOSIGNAL and the given flags (MSG_DONTWAIT...).
 * Returns 0, or -errno; a partly sent message (stream sockets are not for this) is -EIO. */
int fdpass_send(int sock, const struct iovec *iov, size_t iov_len, const int *fds, size_t n_fds, int flags);

/* The same on a stream socket: the beginning of the data, with the descriptors. Returns how much went, or -errno, and
 * then neither data nor descriptors did. */
ssize_t fdpass_send_some(int sock, struct span data, const int *fds, size_t n_fds, int flags);

/* Receive one message of at most size bytes and up to max_fds (<= FDPASS_MAX) descriptors, all CLOEXEC.
 * Returns the length of the message (0: end of file), fds[0..*n_fds) are the caller's, the rest of fds is -1.
 * -EAGAIN when there is none, -EMSGSIZE when it was longer than size, -EBADMSG when descriptors or ancillary data
 * were not as allowed (too many, truncated, another type); on every error nothing stays open. */
ssize_t fdpass_receive(int sock, void *buffer, size_t size, int *fds, size_t max_fds, size_t *n_fds, int flags);

/* Credentials of the peer of a connected unix socket: 0 or -errno. -EACCES for the overflow uid (65534), which stands
 * for "not mapped here" and decides nothing. */
int peer_credentials(int sock, struct ucred *credentials);

/* An empty memfd that can be sealed and never executed; its name is for /proc only. The descriptor, or -errno. */
int memfd_open(const char *name);

/* 0 and its size when fd is a memfd that has all these seals (F_SEAL_*); -errno else: -EPERM when one is missing. */
int memfd_check_seals(int fd, int seals, size_t *size);

/* The same for seals against writing, growing, shrinking and further sealing. */
int memfd_check_sealed(int fd, size_t *size);

/* A sealed memfd holding the bytes: its descriptor, or -errno. The caller closes it. */
int memfd_make_sealed(struct span data);

#endif
