/* SPDX-License-Identifier: Apache-2.0
 *
 * Request: one handoff/1 message of a module with its descriptors, from its arrival
 * to the verdict. Whoever holds a request owns its descriptors. docs/protocol.md, section 3.
 *
 * The gate never reads from, writes to or changes a client socket: it only asks the kernel what it is.
 */
#ifndef GATE_REQUEST_H
#define GATE_REQUEST_H

#include <sys/socket.h>

#include "daemon/common/messages.h"
#include "lib/keyring.h"
#include "lib/wire.h"

struct request {
	struct span message; /* as received; borrowed from the receive buffer */
	struct wire_request wire;
	int fds[WIRE_FDS_MAX];
	size_t n_fds;
	struct sockaddr_storage client; /* getpeername(); ss_family is AF_UNSPEC until request_check_form() got so far,
	                                   and for a relayed client */
	char kid[KEYRING_KID_MAX + 1];  /* "" until the token's form was found right */
};

/* What the gate knows when it judges. */
struct request_rules {
	const struct keyring *keys;
	const char *path;      /* of the listener it came in by */
	uint64_t netns_cookie; /* of the listening socket */
	bool relay;            /* the listener takes relayed clients */
	int connection;        /* it came in by this one */
	time_t now;
};

/* Receive one message into buffer (WIRE_REQUEST_MAX bytes), never blocking. Returns 1; 0 at end of file; -EAGAIN when
 * there is none; -EMSGSIZE or -EBADMSG when it breaks the rules; another -errno when the connection is broken. */
int request_receive(int sock, uint8_t *buffer, struct request *request);

/* Whether format and descriptors are what they must be: REASON_OK, or the reason why the connection must be closed.
 * REASON_CLIENT_GONE and REASON_RELAY_FORBIDDEN are refusals, not violations. */
enum reason request_check_form(struct request *request, const struct request_rules *rules);

/* Whether fd is a connected TCP socket of this network namespace: REASON_OK, and who is at its other end in peer. */
enum reason request_check_client(int fd, uint64_t netns_cookie, struct sockaddr_storage *peer);

/* Whether this is a connected socket that an answer can go to. */
bool request_is_reply_socket(int fd);

/* Whether the token allows it, once the form is right: REASON_OK or the reason of the refusal. */
enum reason request_check_token(struct request *request, const struct request_rules *rules);

/* Answer on the reply socket. Nothing is done about a module that has stopped waiting. */
void request_refuse(const struct request *request, enum reason reason, unsigned retry_after_s);

/* The request without token and binding, in two pieces: a header made in header, and what follows the binding. */
void request_strip(const struct request *request, uint8_t header[WIRE_HEADER_LEN], struct span pieces[2]);

/* Address and port of the client for logs, "" when not known. */
#define REQUEST_PEER_MAX 64
void request_peer(const struct request *request, char out[REQUEST_PEER_MAX]);

void request_close(struct request *request);

#endif
