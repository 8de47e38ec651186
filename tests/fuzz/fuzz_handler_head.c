/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzzing what a handler's program writes: whatever it is and wherever it is cut, the same comes of it; header lines
 * are such that may go to a client, a body is as long as its head says, text is UTF-8.
 */
#include <stdlib.h>

#include "daemon/streamer/handler_output.h"
#include "lib/utf8.h"
#include "lib/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A broken promise ends the run. */
static void must(bool kept)
{
	if (!kept)
		abort();
}

/* What came of an output. */
struct seen {
	struct text body;
	struct text lines;
	unsigned status;
	uint64_t excess;
	const char *wrong;
};

/* A relayed head takes the same lines. */
static void check_head(const struct handler_head *head)
{
	struct wire_relay_head relay = {.status = (uint16_t)head->status, .headers = text_span(&head->lines)};
	struct wire_relay_head parsed;
	uint8_t start[WIRE_RELAY_START_LEN];
	struct text message = {0};

	wire_relay_head_write(&relay, start);
	text_add(&message, start, sizeof(start));
	text_add_span(&message, relay.headers);
	must(head->lines.len <= HANDLER_HEAD_MAX + HANDLER_FIELDS_MAX * 2);
	must(wire_relay_head_parse(text_span(&message), &parsed) == 0 && parsed.status == head->status);
	must(!head->chunked || head->content_length < 0 || head->bodiless);
	text_free(&message);
}

/* Feed one piece, in memory of its own. */
static void feed(struct handler_output *output, struct seen *seen, const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size > 0 ? size : 1);
	struct span input = span_of(copy, size), piece;
	int event = HANDLER_MORE;

	if (size > 0)
		memcpy(copy, data, size);
	while (seen->wrong == NULL) {
		event = handler_output_next(output, &input, &piece);
		if (event < 0)
			seen->wrong = output->wrong;
		if (event == HANDLER_HEAD) {
			check_head(&output->head);
			seen->status = output->head.status;
			text_add_span(&seen->lines, text_span(&output->head.lines));
		}
		if (event == HANDLER_BODY)
			text_add_span(&seen->body, piece);
		if (event == HANDLER_MORE || event == HANDLER_END)
			break;
	}
	free(copy);
}

static void run(struct seen *seen, enum handler_form form, const uint8_t *data, size_t size, size_t step)
{
	struct handler_output output;
	struct span piece;

	*seen = (struct seen){0};
	handler_output_init(&output, form);
	for (size_t at = 0; at < size; at += step)
		feed(&output, seen, data + at, size - at < step ? size - at : step);
	if (seen->wrong == NULL && handler_output_end(&output, &piece) != 0)
		seen->wrong = output.wrong;
	else if (seen->wrong == NULL)
		text_add_span(&seen->body, piece);
	seen->excess = output.excess;
	if (seen->wrong == NULL && output.head.content_length >= 0 && !output.head.bodiless)
		must(seen->body.len == (size_t)output.head.content_length);
	must(!output.head.bodiless || seen->body.len == 0);
	must(form != HANDLER_FORM_TEXT || (seen->wrong == NULL && utf8_valid(text_span(&seen->body))));
	handler_output_free(&output);
}

static void seen_free(struct seen *seen)
{
	text_free(&seen->body);
	text_free(&seen->lines);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct seen whole, cut;

	if (size == 0)
		return 0;
	enum handler_form form = (enum handler_form)(data[0] & 3);
	size_t step = (data[0] >> 2) + 1u;
	if (form > HANDLER_FORM_TEXT)
		return 0;
	run(&whole, form, data + 1, size - 1, size);
	run(&cut, form, data + 1, size - 1, step);
	must(whole.wrong == cut.wrong && whole.status == cut.status && whole.excess == cut.excess);
	must(span_equal(text_span(&whole.body), text_span(&cut.body)));
	must(span_equal(text_span(&whole.lines), text_span(&cut.lines)));
	seen_free(&whole);
	seen_free(&cut);
	return 0;
}
