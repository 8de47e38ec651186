/* SPDX-License-Identifier: Apache-2.0
 *
 * Legacy: a connection of a sender that knows neither tokens nor replies: the original module, or ours in raw mode. One
 * message of bare data with the client's socket, then the end of file. docs/protocol.md, section 4.
 *
 * Nothing is known of it but the uid of the sender. The client is closed when it cannot be passed on: who sent it has
 * let go of it, and the gate writes to no client.
 */
#ifndef GATE_LEGACY_H
#define GATE_LEGACY_H

#include "listener.h"

/* Make connection->legacy and start its deadline. Returns 0 or -ENOMEM. */
int legacy_open(struct connection *connection);

/* Callback of connection->readable. */
void legacy_on_readable(struct ev_loop *loop, ev_io *watcher, int events);

/* Count and log the refusal of the client that has come in; nothing when none has. */
void legacy_refuse(const struct connection *connection, enum reason reason);

/* Free connection->legacy, the client included. */
void legacy_close(struct connection *connection);

#endif
