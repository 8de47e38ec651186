/* SPDX-License-Identifier: Apache-2.0
 *
 * Refusal: see refusal.h.
 */
#include "refusal.h"

#include <sys/socket.h>

#include "head.h"

/* As much of a request as is taken off the socket: what is left unread makes the kernel reset the connection, and the
 * client may lose the answer. */
#define UNREAD_MAX 65536u

static void drain(int client)
{
	char unread[4096];
	size_t total = 0;

	while (total < UNREAD_MAX) {
		ssize_t len = recv(client, unread, sizeof(unread), MSG_DONTWAIT);

		if (len <= 0)
			return;
		total += (size_t)len;
	}
}

void refusal_send(int client, unsigned status, unsigned retry_after_s)
{
	static const char body[] = "{\"error\":{\"message\":\"The request was refused.\",\"code\":\"refused\"}}\n";
	struct text text = {0};
	struct head head = {
	    .status = status,
	    .content_type = HEAD_JSON,
	    .now = time(NULL),
	    .content_length = sizeof(body) - 1,
	    .retry_after = retry_after_s,
	};

	head_write(&text, &head);
	text_add_string(&text, body);
	/* So short that a socket takes it whole, or its client takes nothing anyway. */
	if (text_ok(&text) && send(client, text.data, text.len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)text.len) {
		shutdown(client, SHUT_WR);
		drain(client);
	}
	text_free(&text);
}
