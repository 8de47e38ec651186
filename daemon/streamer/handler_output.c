/* SPDX-License-Identifier: Apache-2.0
 *
 * Handler output: see handler_output.h.
 */
#include "handler_output.h"

#include <errno.h>

void handler_output_init(struct handler_output *output, enum handler_form form)
{
	*output = (struct handler_output){.form = form};
	output->at = form == HANDLER_FORM_TEXT ? HANDLER_AT_BODY : HANDLER_AT_HEAD;
	output->head.content_length = -1;
}

void handler_output_free(struct handler_output *output)
{
	text_free(&output->room);
	text_free(&output->head.lines);
}

static int is_wrong(struct handler_output *output, const char *wrong)
{
	output->wrong = wrong;
	return -EBADMSG;
}

static void skip(struct span *input, size_t len)
{
	*input = span_of(input->data + len, input->len - len);
}

/* Whether the body ends where its head said. */
static bool body_is_whole(const struct handler_output *output)
{
	const struct handler_head *head = &output->head;

	if (head->bodiless)
		return true;
	if (head->chunked)
		return handler_chunks_ended(&output->chunks);
	return head->content_length >= 0 && output->body == (uint64_t)head->content_length;
}

static int take_head(struct handler_output *output, struct span *input)
{
	size_t before = output->room.len, len, taken;
	enum handler_head_form form = output->form == HANDLER_FORM_CGI ? HANDLER_HEAD_CGI : HANDLER_HEAD_HTTP;
	const char *wrong;

	taken = HANDLER_HEAD_MAX - before < input->len ? HANDLER_HEAD_MAX - before : input->len;
	text_add(&output->room, input->data, taken);
	if (!text_ok(&output->room))
		return is_wrong(output, "there is no memory for the head");
	len = handler_head_length(text_span(&output->room), before);
	if (len == 0 && output->room.len == HANDLER_HEAD_MAX)
		return is_wrong(output, "the head is longer than 64 KiB");
	skip(input, len == 0 ? taken : len - before);
	if (len == 0)
		return HANDLER_MORE;
	wrong = handler_head_parse(span_of(output->room.data, len), form, &output->head);
	text_free(&output->room);
	if (wrong != NULL)
		return is_wrong(output, wrong);
	output->at = HANDLER_AT_BODY;
	return HANDLER_HEAD;
}

static int take_chunks(struct handler_output *output, struct span *input, struct span *piece)
{
	int rc = handler_chunks_next(&output->chunks, input, piece);

	if (rc < 0)
		return is_wrong(output, "the chunks of the body are broken");
	return rc > 0 ? HANDLER_BODY : HANDLER_MORE;
}

static int take_text(struct handler_output *output, struct span *input, struct span *piece)
{
	*piece = utf8_repair_piece(&output->repair, *input, &output->room);
	if (!text_ok(&output->room))
		return is_wrong(output, "there is no memory for the text");
	skip(input, input->len);
	return piece->len > 0 ? HANDLER_BODY : HANDLER_MORE;
}

static int take_bytes(struct handler_output *output, struct span *input, struct span *piece)
{
	uint64_t length = (uint64_t)output->head.content_length;
	uint64_t left = output->head.content_length < 0 ? UINT64_MAX : length - output->body;

	*piece = span_of(input->data, left < input->len ? (size_t)left : input->len);
	skip(input, piece->len);
	return HANDLER_BODY;
}

static int take_body(struct handler_output *output, struct span *input, struct span *piece)
{
	int event = HANDLER_MORE;

	if (!body_is_whole(output) && input->len > 0) {
		if (output->form == HANDLER_FORM_TEXT)
			event = take_text(output, input, piece);
		else if (output->head.chunked)
			event = take_chunks(output, input, piece);
		else
			event = take_bytes(output, input, piece);
	}
	if (event == HANDLER_BODY)
		output->body += piece->len;
	if (event != HANDLER_MORE || !body_is_whole(output))
		return event;
	output->at = HANDLER_AT_END;
	return HANDLER_END;
}

int handler_output_next(struct handler_output *output, struct span *input, struct span *piece)
{
	int event;

	*piece = SPAN_EMPTY;
	if (output->at == HANDLER_AT_HEAD)
		return input->len > 0 ? take_head(output, input) : HANDLER_MORE;
	event = output->at == HANDLER_AT_BODY ? take_body(output, input, piece) : HANDLER_END;
	if (event == HANDLER_END) {
		output->excess += input->len;
		skip(input, input->len);
	}
	return event;
}

int handler_output_end(struct handler_output *output, struct span *piece)
{
	*piece = SPAN_EMPTY;
	if (output->at == HANDLER_AT_HEAD)
		return is_wrong(output, output->room.len == 0 ? "there was no output" : "the head has no end");
	if (output->form == HANDLER_FORM_TEXT)
		*piece = utf8_repair_end(&output->repair);
	else if ((output->head.chunked || output->head.content_length >= 0) && !body_is_whole(output))
		return is_wrong(output, "the body is shorter than its head says");
	output->at = HANDLER_AT_END;
	return 0;
}
