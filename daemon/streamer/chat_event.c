/* SPDX-License-Identifier: Apache-2.0
 *
 * Chat event: see chat_event.h.
 */
#include "chat_event.h"

void chat_event_parse(struct chat_event *event, const char *name, struct span data)
{
	json_t *choice, *content, *reason;

	*event = (struct chat_event){.kind = CHAT_EVENT_NOTHING};
	if (span_equal(data, SPAN_LITERAL("[DONE]"))) {
		event->kind = CHAT_EVENT_DONE;
		return;
	}
	event->root = json_loadb((const char *)data.data, data.len, JSON_REJECT_DUPLICATES, NULL);
	if (strcmp(name, "error") == 0 || json_is_object(json_object_get(event->root, "error")) ||
	    json_is_string(json_object_get(event->root, "error"))) {
		event->kind = CHAT_EVENT_ERROR;
		return;
	}
	if (!json_is_object(event->root)) {
		event->kind = CHAT_EVENT_INVALID;
		return;
	}
	choice = json_array_get(json_object_get(event->root, "choices"), 0);
	content = json_object_get(json_object_get(choice, "delta"), "content");
	reason = json_object_get(choice, "finish_reason");
	event->finished = json_string_length(reason) > 0;
	if (json_string_length(content) > 0) {
		event->kind = CHAT_EVENT_CONTENT;
		event->content = span_of(json_string_value(content), json_string_length(content));
	}
}

void chat_event_free(struct chat_event *event)
{
	json_decref(event->root);
	event->root = NULL;
}
