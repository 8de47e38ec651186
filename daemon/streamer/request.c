/* SPDX-License-Identifier: Apache-2.0
 *
 * Request: see request.h.
 */
#include "request.h"

#include <errno.h>
#include <stdlib.h>

#include "request_option.h"
#include "response_headers.h"

#define PARTS_HEADER_LEN 8

/* ---------------------------------------------------------------- the form */

/* JSON and what follows it: nothing, unless the data is parts. */
static const char *split(struct span data, struct span *json, struct span *blobs)
{
	*json = data;
	*blobs = span_of(data.data + data.len, 0);
	if (data.len < PARTS_HEADER_LEN || data.data[PARTS_HEADER_LEN - 1] != 0)
		return NULL;
	if (get_le64(data.data) > data.len - PARTS_HEADER_LEN)
		return "the JSON is longer than the data";
	*json = span_of(data.data + PARTS_HEADER_LEN, (size_t)get_le64(data.data));
	*blobs = span_of(json->data + json->len, data.len - PARTS_HEADER_LEN - json->len);
	return NULL;
}

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

static const char *load(struct request *request, struct span json)
{
	json_error_t where;

	if (!depth_allowed(json))
		return "the data nests too deep";
	request->root = json_loadb((const char *)json.data, json.len, JSON_REJECT_DUPLICATES, &where);
	if (request->root == NULL)
		return "the data is not valid JSON";
	return json_is_object(request->root) ? NULL : "the data is not a JSON object";
}

/* ---------------------------------------------------------------- the members */

json_t *request_member(const struct request *request, const char *name)
{
	json_t *value = json_object_get(request->root, name);

	return json_is_null(value) ? NULL : value;
}

/* A member that must be a string; false when it is something else. */
static bool take_string(const struct request *request, const char *name, const char **out)
{
	json_t *value = request_member(request, name);

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

static const char *take_text(struct request *request, const struct config_request *limits)
{
	if (!take_string(request, "prompt", &request->prompt))
		return "prompt is not a string";
	if (request->prompt != NULL)
		request->prompt_len = json_string_length(request_member(request, "prompt"));
	request->messages = request_member(request, "messages");
	if (request->messages != NULL && !messages_valid(request->messages))
		return "messages is not an array of objects with role and content";
	if (request->messages != NULL && request->prompt != NULL)
		return "prompt and messages exclude each other";
	if (json_array_size(request->messages) > limits->max_messages)
		return "more messages than max-messages allows";
	if (!take_string(request, "system", &request->system))
		return "system is not a string";
	return NULL;
}

/* Both names of the same limit. */
static const char *take_max_tokens(struct request *request)
{
	json_t *newer = request_member(request, "max_completion_tokens");

	request->max_tokens = request_member(request, "max_tokens");
	if (newer != NULL && request->max_tokens != NULL)
		return "max_tokens and max_completion_tokens exclude each other";
	if (newer != NULL)
		request->max_tokens = newer;
	if (request->max_tokens != NULL && (json_integer_value(request->max_tokens) < 1 ||
	                                    json_integer_value(request->max_tokens) > CONFIG_TOKENS_MAX))
		return "max_tokens is not an integer from 1 to 100000000";
	return NULL;
}

/* It becomes a header's value. */
static bool test_pattern_valid(const char *pattern)
{
	size_t len = strlen(pattern);

	for (const char *c = pattern; *c != '\0'; c++)
		if (*c < ' ' || *c > '~')
			return false;
	return len > 0 && len <= 256 && pattern[0] != ' ' && pattern[len - 1] != ' ';
}

static const char *take_choices(struct request *request)
{
	const char *wrong = take_max_tokens(request);

	if (wrong != NULL)
		return wrong;
	if (!take_string(request, "model", &request->model) || (request->model != NULL && request->model[0] == '\0'))
		return "model is not a string";
	if (!take_string(request, "profile", &request->profile))
		return "profile is not a string";
	if (!take_string(request, "test_pattern", &request->test_pattern) ||
	    (request->test_pattern != NULL && !test_pattern_valid(request->test_pattern)))
		return "test_pattern is not a string of 1 to 256 printable characters";
	request->response_headers = request_member(request, "response_headers");
	if (request->response_headers != NULL)
		wrong = response_headers_check(request->response_headers);
	for (size_t i = 0; i < request_options_count && wrong == NULL; i++) {
		const struct request_option *option = &request_options[i];
		json_t *value = request_member(request, option->name);

		if (value != NULL && !option->valid(value, option->min, option->max))
			wrong = option->wrong;
	}
	return wrong;
}

/* ---------------------------------------------------------------- attachments */

static const char *take_images(struct request *request, json_t *images, json_t *image)
{
	const char *wrong = NULL;
	json_t *item;
	size_t i;

	json_array_foreach(images, i, item)
	{
		if (wrong == NULL)
			wrong =
			    attachment_take_image(json_object_get(item, "base64"), json_object_get(item, "mime_type"),
			                          &request->attachments[request->n_attachments++]);
	}
	if (image != NULL && wrong == NULL)
		wrong = attachment_take_image(image, request_member(request, "image_mime_type"),
		                              &request->attachments[request->n_attachments++]);
	return wrong;
}

static int take_attachments(struct request *request, struct span blobs, const struct config_request *limits,
                            const char **error)
{
	json_t *list = request_member(request, "attachments");
	json_t *images = request_member(request, "images");
	json_t *image = request_member(request, "image_base64");
	size_t n = json_array_size(list) + json_array_size(images) + (image != NULL);

	/* A name in the data never opens a file. */
	if (request_member(request, "image_path") != NULL || request_member(request, "image_paths") != NULL)
		*error = "image_path and image_paths are not offered: send the bytes as attachments";
	else if (list != NULL && !json_is_array(list))
		*error = "attachments is not an array";
	else if (images != NULL && !json_is_array(images))
		*error = "images is not an array";
	else if (n > limits->max_attachments)
		*error = "more attachments than max-attachments allows";
	if (*error != NULL)
		return -EINVAL;
	request->attachments = calloc(n + 1, sizeof(*request->attachments));
	if (request->attachments == NULL)
		return -ENOMEM;
	*error = take_images(request, images, image);
	if (*error == NULL)
		*error = attachment_take_list(list, blobs, request->attachments + request->n_attachments);
	request->n_attachments = n;
	return *error == NULL ? 0 : -EINVAL;
}

/* ---------------------------------------------------------------- all of it */

int request_parse(struct request *request, struct data *data, const struct config_request *limits, const char **error)
{
	struct span json, blobs;

	*request = (struct request){.data = data};
	*error = NULL;
	if (data->span.len == 0)
		return 0;
	*error = split(data->span, &json, &blobs);
	if (*error == NULL && json.len > limits->max_prompt)
		*error = "the data without its attachments is longer than max-prompt allows";
	if (*error == NULL)
		*error = load(request, json);
	if (*error == NULL)
		*error = take_text(request, limits);
	if (*error == NULL)
		*error = take_choices(request);
	return *error == NULL ? take_attachments(request, blobs, limits, error) : -EINVAL;
}

void request_free(struct request *request)
{
	json_decref(request->root);
	free(request->attachments);
	*request = (struct request){0};
}
