/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzzing upstreams of HTTP/2: whatever one sends, each request that somebody waits for ends exactly once, the head
 * comes once and before the body, nobody gets more than was sent, and nothing is left.
 *
 * The first four bytes say how many requests there are, how much one read gives, how much the socket takes, and what
 * the receivers do; the rest is what the upstream sends on its first connection.
 */
#include "tests/unit/h2_support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHOICES      4
#define REQUESTS_MAX 6

enum { PAUSE_AT_HEAD = 1, CANCEL_AT_HEAD = 2, RELEASE_AT_BODY = 4, CANCEL_AT_BODY = 8, ONE_A_CONNECTION = 16 };

static struct asked asked[REQUESTS_MAX];
static bool let_go[REQUESTS_MAX]; /* by its receiver: no more events come */
static uint8_t choice;

/* A broken promise ends the run. */
static void must(bool kept)
{
	if (!kept)
		abort();
}

static void on_head(struct asked *one)
{
	size_t i = (size_t)(one - asked);

	must(!let_go[i] && one->heads == 1 && one->ends == 0 && one->answer.len == 0);
	must(one->head.status >= 200 && one->head.status <= 999);
	if ((choice & PAUSE_AT_HEAD) != 0 && i % 2 == 0)
		transport_h2.pause(one->transfer, true);
	if ((choice & CANCEL_AT_HEAD) != 0 && i % 3 == 1) {
		asked_cancel(one);
		let_go[i] = true;
	}
}

static void on_piece(struct asked *one)
{
	size_t i = (size_t)(one - asked);

	must(!let_go[i] && one->heads == 1 && one->ends == 0);
	if ((choice & RELEASE_AT_BODY) != 0 && i == 0)
		transport_h2.release(one->transfer);
	else if ((choice & CANCEL_AT_BODY) != 0 && i == 2)
		transport_h2.cancel(one->transfer);
	else
		return;
	one->transfer = NULL;
	let_go[i] = true;
}

static void talk(const uint8_t *data, size_t size, size_t piece, size_t room)
{
	struct wire *wire = &wires[0];

	h2_dialled(0);
	wire->piece = piece;
	wire->room = room;
	h2_say(wire, data, size);
	for (size_t i = 0; i < REQUESTS_MAX; i++)
		if (asked[i].transfer != NULL)
			transport_h2.pause(asked[i].transfer, false);
	wire->room = SIZE_MAX;
	h2_ready(wire, EV_WRITE);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	if (h2_transport == NULL)
		h2_support_begin();
	if (size < CHOICES)
		return 0;

	size_t n = 1 + bytes[0] % REQUESTS_MAX;
	uint8_t *copy = malloc(size - CHOICES + 1); /* ends where the input does */

	must(copy != NULL);
	memcpy(copy, bytes + CHOICES, size - CHOICES);
	choice = bytes[3];
	h2_upstream.streams_per_connection = (choice & ONE_A_CONNECTION) != 0 ? 1 : 4;
	memset(asked, 0, sizeof(asked));
	memset(let_go, 0, sizeof(let_go));
	for (size_t i = 0; i < n; i++) {
		asked[i].on_head = on_head;
		asked[i].on_piece = on_piece;
		ask(&asked[i], i * 9000);
	}
	talk(copy, size - CHOICES, bytes[1], bytes[2] == 0 ? SIZE_MAX : 64u * bytes[2]);
	h2_support_end();
	for (size_t i = 0; i < n; i++) {
		must(asked[i].ends == (let_go[i] ? 0 : 1));
		must(asked[i].sent <= 1 && asked[i].answer.len <= size);
		must(asked[i].error != TRANSFER_OK || let_go[i] || asked[i].heads == 1);
		asked_free(&asked[i]);
	}
	must(h2_transport->n_connections == 0 && h2_transport->n_waiting == 0 && h2_transport->n_free == 0);
	must(h2_transport->n_draining == 0 && h2_transport->n_connecting == 0 && TAILQ_EMPTY(&h2_transport->failed));
	must(request_bodies_held() == 0);
	free(copy);
	return 0;
}
