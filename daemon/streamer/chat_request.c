/* SPDX-License-Identifier: Apache-2.0
 *
 * Chat request: see chat_request.h.
 */
#include "chat_request.h"

#include <string.h>

static int add_message(json_t *messages, const char *role, const char *content, size_t len)
{
	return json_array_append_new(messages, json_pack("{s:s, s:s%}", "role", role, "content", content, len));
}

static json_t *messages_make(const struct request *request)
{
	json_t *messages = json_array();
	int rc = messages == NULL ? -1 : 0;

	if (rc == 0 && request->system != NULL)
		rc = add_message(messages, "system", request->system, strlen(request->system));
	if (rc == 0 && request->prompt != NULL)
		rc = add_message(messages, "user", request->prompt, request->prompt_len);
	if (rc == 0 && request->messages != NULL)
		rc = json_array_extend(messages, request->messages);
	if (rc == 0)
		return messages;
	json_decref(messages);
	return NULL;
}

struct request_body *chat_request_make(const struct config_backend *backend, const struct request *request)
{
	const char *model = request->model != NULL ? request->model : backend->model;
	json_t *root = json_object();
	char *text = NULL;
	int rc = json_object_set_new(root, "messages", messages_make(request));

	rc |= json_object_set_new(root, "stream", json_true());
	if (model[0] != '\0')
		rc |= json_object_set_new(root, "model", json_string(model));
	if (request->max_tokens != NULL)
		rc |= json_object_set(root, "max_tokens", request->max_tokens);
	if (request->temperature != NULL)
		rc |= json_object_set(root, "temperature", request->temperature);
	if (rc == 0)
		text = json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(15));
	json_decref(root);
	return text != NULL ? request_body_new(text, strlen(text)) : NULL;
}
