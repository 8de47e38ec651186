/* SPDX-License-Identifier: Apache-2.0
 *
 * Chat event: see chat_event.h.
 */
#include "chat_event.h"

#include <stdlib.h>

#include "surrogate.h"

/* Parse as it is; if that fails perhaps a character was cut in two. */
static json_t *parse(struct span data, struct surrogate_halves *halves)
{
	json_t *root = json_loadb((const char *)data.data, data.len, JSON_REJECT_DUPLICATES, NULL);
	uint8_t *copy;

	*halves = (struct surrogate_halves){0};
	if (root != NULL || data.len == 0)
		return root;
	copy = malloc(data.len);
	if (copy == NULL)
		return NULL;
	memcpy(copy, data.data, data.len);
	surrogate_mark(copy, data.len, halves);
	root = json_loadb((const char *)copy, data.len, JSON_REJECT_DUPLICATES, NULL);
	free(copy);
	return root;
}

static bool is_error(struct span name, json_t *root)
{
	json_t *error = json_object_get(root, "error");

	return span_equal(name, SPAN_LITERAL("error")) || json_is_object(error) || json_is_string(error);
}

static bool begins(struct span text, const char *mark)
{
	return text.len >= SURROGATE_MARK_LEN && memcmp(text.data, mark, SURROGATE_MARK_LEN) == 0;
}

/* Join what an earlier event left with the start of this content, and keep a half at its end for the next. */
static void join_halves(struct chat_event *event, const struct surrogate_halves *halves, uint16_t *half)
{
	struct span *content = &event->content;
	bool low = halves->low != 0 && begins(*content, SURROGATE_LOW_MARK);

	if (low)
		*content = span_of(content->data + SURROGATE_MARK_LEN, content->len - SURROGATE_MARK_LEN);
	if (low || *half != 0)
		event->joined_len = surrogate_join(*half, low ? halves->low : 0, event->joined);
	*half = 0;
	if (halves->high == 0 || content->len < SURROGATE_MARK_LEN)
		return;
	content->len -= SURROGATE_MARK_LEN;
	if (begins(span_of(content->data + content->len, SURROGATE_MARK_LEN), SURROGATE_HIGH_MARK))
		*half = halves->high;
	else
		content->len += SURROGATE_MARK_LEN;
}

/* A number of tokens; false when it is none. */
static bool take_tokens(json_t *usage, const char *name, uint32_t *out)
{
	json_t *number = json_object_get(usage, name);
	json_int_t value = json_integer_value(number);

	if (!json_is_integer(number) || value < 0 || value > UINT32_MAX)
		return false;
	*out = (uint32_t)value;
	return true;
}

static void take_usage(struct chat_event *event)
{
	json_t *usage = json_object_get(event->root, "usage");

	event->has_usage = take_tokens(usage, "prompt_tokens", &event->prompt_tokens) &&
	                   take_tokens(usage, "completion_tokens", &event->completion_tokens);
	event->only_usage = event->has_usage && json_array_size(json_object_get(event->root, "choices")) == 0;
}

void chat_event_parse(struct chat_event *event, const struct sse_event *sse, uint16_t *half)
{
	struct surrogate_halves halves;
	json_t *choice, *content;

	*event = (struct chat_event){.kind = CHAT_EVENT_NOTHING};
	if (span_equal(sse->data, SPAN_LITERAL("[DONE]"))) {
		event->kind = CHAT_EVENT_DONE;
		return;
	}
	event->root = parse(sse->data, &halves);
	if (is_error(sse->name, event->root)) {
		event->kind = CHAT_EVENT_ERROR;
		return;
	}
	if (!json_is_object(event->root)) {
		event->kind = CHAT_EVENT_INVALID;
		return;
	}
	take_usage(event);
	choice = json_array_get(json_object_get(event->root, "choices"), 0);
	content = json_object_get(json_object_get(choice, "delta"), "content");
	event->finished = json_string_length(json_object_get(choice, "finish_reason")) > 0;
	if (json_string_length(content) > 0) {
		event->kind = CHAT_EVENT_CONTENT;
		event->content = span_of(json_string_value(content), json_string_length(content));
		join_halves(event, &halves, half);
	}
}

void chat_event_free(struct chat_event *event)
{
	json_decref(event->root);
	event->root = NULL;
}
