/* SPDX-License-Identifier: Apache-2.0
 *
 * Offer: a handoff as the module makes it, signed, for one end of a new connection.
 */
#ifndef BENCH_OFFER_H
#define BENCH_OFFER_H

#include <netinet/in.h>

#include "answer.h"
#include "lib/keyring.h"

struct offerer {
	const char *path; /* of the gate's listener, as it is signed */
	const struct keyring_key *key;
	const char *more; /* what follows the prompt in the data, "" for nothing; goes into JSON as it is */
	bool relayed;     /* socketpairs in the place of TCP connections */
	int room;         /* SO_RCVBUF of clients, SO_SNDBUF of what is passed on; 0: the kernel's */
	int listener;     /* for TCP connections with ourselves */
	struct sockaddr_in address;
};

struct offer {
	uint8_t *message;
	size_t len;
	int server;
	int reply; /* our end of the reply socket */
	int passed_reply;
};

/* 0 or -1 with errno. */
int offerer_init(struct offerer *offerer);
/* A connection: the client's end, which does not block, and the one to pass on. 0 or -1. */
int offer_connect(const struct offerer *offerer, int *client, int *server);
/* A handoff of server with this prompt. 0, or -errno. */
int offer_make(const struct offerer *offerer, int server, const char prompt[PROMPT_LEN], size_t number,
               struct offer *offer);
/* Send it on a connection to the gate. 0, and server and offer are gone but for the reply socket; or -errno: -EAGAIN
 * when the connection is full. */
int offer_send(struct offer *offer, int gate);
/* A connection to the gate, or -1. */
int offer_gate(const struct offerer *offerer);

#endif
