/* SPDX-License-Identifier: Apache-2.0
 *
 * Control: the gate's connections to this process, and what comes by them.
 */
#ifndef HANDOFFD_STREAMER_CONTROL_H
#define HANDOFFD_STREAMER_CONTROL_H

#include "daemon/common/channel.h"
#include "streamer.h"

/* A gate that starts again may connect before the old one's connection is seen to end. */
#define CONTROL_CONNECTIONS_MAX 4

struct control_connection {
	ev_io watcher;
	struct channel channel;
	struct control *control;
	uint32_t number; /* of the connection, from 1 */
	uint64_t *ended; /* ids of streams that the gate was not told of yet */
	size_t n_ended;
	size_t room_ended;
	bool read_all; /* we stop, and nothing more comes by it */
};

struct control {
	struct streamer *streamer;
	ev_io listener;
	uid_t gate_uid;
	uint32_t last_number;
	ev_prepare before_waiting;
	struct control_connection connections[CONTROL_CONNECTIONS_MAX];
};

/* Accept the gate, and nobody else, on the listening socket. */
void control_init(struct control *control, struct streamer *streamer, int listen_fd, uid_t gate_uid);

/* Take what the gate has sent already, and nothing more: it turns to other streamers. */
void control_stop(struct control *control);

#endif
