/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzzing handoff/1: whatever bytes arrive, an accepted request is one that would be written again byte for byte, and
 * nothing outside the message is read.
 */
#include <stdlib.h>

#include "lib/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A broken promise ends the run. */
static void must(bool kept)
{
	if (!kept)
		abort();
}

static void check_request(struct span message)
{
	struct wire_request request;

	if (wire_request_parse(message, &request) != 0)
		return;
	for (size_t type = 1; type < WIRE_FIELD_END; type++) {
		struct span field = request.field[type];
		must(!field.data ||
		     (field.data >= message.data && field.data + field.len <= message.data + message.len));
	}
	must(wire_headers_valid(request.field[WIRE_RESPONSE_HEADERS]));
	must(wire_request_size(&request) == message.len);
	uint8_t *again = malloc(message.len);
	must(again != NULL);
	must(wire_request_write(&request, again, message.len) == message.len);
	must(memcmp(again, message.data, message.len) == 0);
	free(again);
}

static void check_reply(struct span message)
{
	struct wire_reply reply;
	uint8_t again[WIRE_REPLY_LEN];

	if (wire_reply_parse(message, &reply) != 0)
		return;
	wire_reply_write(&reply, again);
	must(span_equal(message, span_of(again, sizeof(again))));
}

static void check_relay_head(struct span message)
{
	struct wire_relay_head head;
	uint8_t again[WIRE_RELAY_START_LEN];

	if (wire_relay_head_parse(message, &head) != 0)
		return;
	must(wire_headers_valid(head.headers));
	must(head.headers.data + head.headers.len == message.data + message.len);
	wire_relay_head_write(&head, again);
	must(memcmp(again, message.data, sizeof(again)) == 0);
}

/* What comes out does not depend on where the stream is cut. */
static void check_pieces(struct span input)
{
	struct wire_pieces whole = {0}, bytes = {0};
	struct span rest = input, body;
	size_t whole_len = 0, bytes_len = 0;
	int result, single = 0;

	while ((result = wire_pieces_next(&whole, &rest, &body)) == 1) {
		must(body.len > 0 && body.data >= input.data && body.data + body.len <= input.data + input.len);
		whole_len += body.len;
	}
	for (size_t i = 0; i < input.len && single == 0; i++) {
		struct span one = span_of(input.data + i, 1);
		while ((single = wire_pieces_next(&bytes, &one, &body)) == 1)
			bytes_len += body.len;
	}
	must(result == single && whole_len == bytes_len && whole.ended == bytes.ended);
}

/* Lines that may go to a client can neither end the head nor add a field of their own. */
static void check_headers(struct span lines)
{
	if (!wire_headers_valid(lines) || lines.len == 0)
		return;
	must(lines.len >= 2 && lines.data[lines.len - 2] == '\r' && lines.data[lines.len - 1] == '\n');
	must(memmem(lines.data, lines.len, "\r\n\r\n", 4) == NULL);
	for (size_t i = 0; i < lines.len; i++) {
		must(lines.data[i] != 0);
		must(lines.data[i] != '\n' || (i > 0 && lines.data[i - 1] == '\r'));
		must(lines.data[i] != '\r' || (i + 1 < lines.len && lines.data[i + 1] == '\n'));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span input = span_of(data, size);

	check_request(input);
	check_reply(input);
	check_relay_head(input);
	check_pieces(input);
	check_headers(input);
	return 0;
}
