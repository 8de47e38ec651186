/* SPDX-License-Identifier: Apache-2.0
 *
 * Channel: one connected SOCK_SEQPACKET socket between two roles, checked against messages.h
 * on both sides: type, direction, size, number of descriptors.
 */
#ifndef HANDOFFD_CHANNEL_H
#define HANDOFFD_CHANNEL_H

#include "lib/bytes.h"
#include "lib/fdpass.h"
#include "messages.h"

struct channel {
	int fd;         /* owned; -1 when closed */
	enum role self; /* who we are */
	enum role peer; /* who is at the other end */
};

/* A message that arrived. body and more point into the buffer given to channel_receive(); the descriptors are the
 * caller's. */
struct message {
	enum message_type type;
	const void *body;
	struct span more;
	int fds[FDPASS_MAX];
	size_t n_fds;
};

/* Name of a role as it stands in logs, file names and policies: "gate", "streamer"... Static storage. */
const char *role_name(enum role role);

/* Send; never blocks. body is the struct that messages.h names for the type; more is what follows it (n_more spans).
 * Descriptors stay the caller's. Returns 0; -EAGAIN when the socket's buffer is full, -ETOOMANYREFS, -EPIPE ...;
 * -EINVAL when the table does not allow this message here. */
int channel_send(struct channel *channel, enum message_type type, const void *body, const struct span *more,
                 size_t n_more, const int *fds, size_t n_fds);

/* Receive one message into buffer (MESSAGE_MAX bytes, aligned to 8, so that body can be read as the struct it is).
 * Never blocks. Returns 1 with *message filled; 0 at end of file; -EAGAIN when there is none; -EBADMSG when it is not
 * allowed here (everything it carried is closed; the caller closes the channel). */
int channel_receive(struct channel *channel, void *buffer, struct message *message);

/* Close the descriptors of a message that nobody took over (those that are not -1). */
void message_close_fds(struct message *message);

void channel_close(struct channel *channel);

#endif
