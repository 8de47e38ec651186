/* SPDX-License-Identifier: Apache-2.0
 *
 * Request: see request.h.
 */
#include "request.h"

#include <errno.h>

/* Whether brackets nest no deeper than allowed, so that the recursive parser meets no surprise. Strings are skipped;
 * whether the rest is JSON is the parser's to say. */
static bool depth_allowed(struct span data)
{
	size_t depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < data.len; i++) {
		uint8_t c = data.data[i];

		if (in_string && c == '\\') {
			i++;
		} else if (c == '"') {
			in_string = !in_string;
		} else if (in_string) {
			continue;
		} else if (c == '{' || c == '[') {
			if (++depth > REQUEST_DEPTH_MAX)
				return false;
		} else if ((c == '}' || c == ']') && depth > 0) {
			depth--;
		}
	}
	return true;
}

/* The member, NULL when it is absent or null. */
static json_t *member(const struct request *request, const char *name)
{
	json_t *value = json_object_get(request->root, name);

	return json_is_null(value) ? NULL : value;
}

/* A member that must be a string; false when it is something else. */
static bool take_string(const struct request *request, const char *name, const char **out)
{
	json_t *value = member(request, name);

	*out = json_string_value(value);
	return value == NULL || *out != NULL;
}

static bool messages_valid(json_t *messages)
{
	size_t i;
	json_t *message;

	if (!json_is_array(messages) || json_array_size(messages) == 0)
		return false;
	json_array_foreach(messages, i, message)
	{
		const char *role = json_string_value(json_object_get(message, "role"));
		json_t *content = json_object_get(message, "content");

		if (role == NULL || role[0] == '\0')
			return false;
		/* Messages that carry tool calls have no content. */
		if (content != NULL && !json_is_string(content) && !json_is_array(content) && !json_is_null(content))
			return false;
	}
	return true;
}

/* NULL, or what is wrong. */
static const char *members_take(struct request *request)
{
	if (!take_string(request, "prompt", &request->prompt))
		return "prompt is not a string";
	if (request->prompt != NULL)
		request->prompt_len = json_string_length(member(request, "prompt"));
	request->messages = member(request, "messages");
	if (request->messages != NULL && !messages_valid(request->messages))
		return "messages is not an array of objects with role and content";
	if (request->messages != NULL && request->prompt != NULL)
		return "prompt and messages exclude each other";
	if (!take_string(request, "system", &request->system))
		return "system is not a string";
	if (!take_string(request, "model", &request->model))
		return "model is not a string";
	request->max_tokens = member(request, "max_tokens");
	if (request->max_tokens != NULL && json_integer_value(request->max_tokens) < 1)
		return "max_tokens is not an integer above 0";
	request->temperature = member(request, "temperature");
	if (request->temperature != NULL &&
	    (!json_is_number(request->temperature) || json_number_value(request->temperature) < 0))
		return "temperature is not a number, 0 or more";
	return NULL;
}

int request_parse(struct request *request, struct span data, const char **error)
{
	json_error_t where;

	*request = (struct request){0};
	*error = NULL;
	if (data.len == 0)
		return 0;
	if (!depth_allowed(data)) {
		*error = "the data nests too deep";
		return -EINVAL;
	}
	request->root = json_loadb((const char *)data.data, data.len, JSON_REJECT_DUPLICATES, &where);
	if (request->root == NULL)
		*error = "the data is not valid JSON";
	else if (!json_is_object(request->root))
		*error = "the data is not a JSON object";
	else
		*error = members_take(request);
	return *error == NULL ? 0 : -EINVAL;
}

void request_free(struct request *request)
{
	json_decref(request->root);
	*request = (struct request){0};
}
