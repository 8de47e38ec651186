/* SPDX-License-Identifier: Apache-2.0
 *
 * Chat request: see chat_request.h.
 */
#include "chat_request.h"

#include <errno.h>
#include <stdlib.h>

#include "chat_content.h"
#include "request_option.h"

/* 15 digits are what a double keeps of a decimal: 0.1 stays 0.1. */
#define DUMP_FLAGS (JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15))

/* What stands where the data says nothing. */
static const struct config_profile no_profile = {.model = "", .system = "", .temperature = -1};

/* ---------------------------------------------------------------- what the configuration offers */

static const struct config_profile *find_profile(const struct config_request *offer, const char *name)
{
	if (name == NULL)
		return &no_profile;
	for (size_t i = 0; i < offer->n_profiles; i++)
		if (strcmp(offer->profiles[i]->name, name) == 0)
			return offer->profiles[i];
	return NULL;
}

static bool model_offered(const struct config_backend *backend, const char *model)
{
	for (size_t i = 0; i < backend->request.n_models; i++)
		if (strcmp(backend->request.models[i], model) == 0)
			return true;
	return backend->request.n_models == 0 || strcmp(backend->model, model) == 0;
}

/* NULL, or why the configuration does not let this request through. */
static const char *check(const struct config_backend *backend, const struct request *request)
{
	unsigned limit = backend->request.max_tokens_limit;
	json_t *last = json_array_get(request->messages, json_array_size(request->messages) - 1);

	if (request->prompt == NULL && request->messages == NULL)
		return "neither prompt nor messages";
	if (find_profile(&backend->request, request->profile) == NULL)
		return "there is no such profile";
	if (request->model != NULL && !model_offered(backend, request->model))
		return "the model is not one that the configuration allows";
	if (limit > 0 && json_integer_value(request->max_tokens) > limit)
		return "max_tokens is above max-tokens-limit";
	/* They go into the last message. */
	if (request->n_attachments > 0 && last != NULL &&
	    (strcmp(json_string_value(json_object_get(last, "role")), "user") != 0 ||
	     !json_is_string(json_object_get(last, "content"))))
		return "attachments need a last message of the user with text";
	return NULL;
}

/* ---------------------------------------------------------------- writing */

static int on_dump(const char *bytes, size_t len, void *user)
{
	text_add(user, bytes, len);
	return 0;
}

static void add_value(struct text *text, const json_t *value)
{
	if (json_dump_callback(value, on_dump, text, DUMP_FLAGS) != 0)
		text->failed = true;
}

static void add_string(struct text *text, const char *string)
{
	text_add_string(text, "\"");
	text_add_json(text, span_of_string(string));
	text_add_string(text, "\"");
}

static void add_system(struct text *text, const char *system)
{
	text_add_string(text, "{\"role\":\"system\",\"content\":");
	add_string(text, system);
	text_add_string(text, "},");
}

/* The last message again, with its attachments in its content. */
static int add_last(struct chat_writer *writer, json_t *message, const struct request *request)
{
	json_t *content = json_object_get(message, "content"), *value;
	struct text *text = &writer->text;
	const char *name;

	text_add_string(text, "{");
	json_object_foreach(message, name, value)
	{
		if (value == content)
			continue;
		add_string(text, name);
		text_add_string(text, ":");
		add_value(text, value);
		text_add_string(text, ",");
	}
	text_add_string(text, "\"content\":");
	int rc = chat_content_write(writer, span_of(json_string_value(content), json_string_length(content)),
	                            request->attachments, request->n_attachments);
	text_add_string(text, "}");
	return rc;
}

static int add_messages(struct chat_writer *writer, const struct request *request)
{
	size_t n = json_array_size(request->messages);
	struct text *text = &writer->text;
	int rc = 0;

	if (n == 0) {
		text_add_string(text, "{\"role\":\"user\",\"content\":");
		rc = chat_content_write(writer, span_of(request->prompt, request->prompt_len), request->attachments,
		                        request->n_attachments);
		text_add_string(text, "}");
	}
	for (size_t i = 0; i < n && rc == 0; i++) {
		json_t *message = json_array_get(request->messages, i);

		if (i > 0)
			text_add_string(text, ",");
		if (i + 1 == n && request->n_attachments > 0)
			rc = add_last(writer, message, request);
		else
			add_value(text, message);
	}
	return rc;
}

static void add_max_tokens(struct text *text, const struct config_request *defaults,
                           const struct config_profile *profile, const json_t *wanted)
{
	json_int_t value = json_integer_value(wanted);

	if (value == 0)
		value = profile->max_tokens;
	if (value == 0)
		value = defaults->max_tokens;
	if (value == 0)
		value = defaults->max_tokens_limit;
	if (value > 0)
		text_add_format(text, ",\"%s\":%lld",
		                defaults->max_completion_tokens ? "max_completion_tokens" : "max_tokens",
		                (long long)value);
}

static void add_options(struct text *text, const struct config_request *defaults, const struct config_profile *profile,
                        const struct request *request)
{
	double temperature = profile->temperature >= 0 ? profile->temperature : defaults->temperature;

	for (size_t i = 0; i < request_options_count; i++) {
		json_t *value = request_member(request, request_options[i].name);

		if (value == NULL)
			continue;
		text_add_format(text, ",\"%s\":", request_options[i].name);
		add_value(text, value);
	}
	add_max_tokens(text, defaults, profile, request->max_tokens);
	if (request_member(request, "temperature") == NULL && temperature >= 0)
		text_add_format(text, ",\"temperature\":%.15g", temperature);
}

static int write_body(struct chat_writer *writer, const struct config_backend *backend, const struct request *request)
{
	const struct config_profile *profile = find_profile(&backend->request, request->profile);
	const char *model = request->model, *system = request->system;
	struct text *text = &writer->text;

	if (model == NULL)
		model = profile->model[0] != '\0' ? profile->model : backend->model;
	if (system == NULL && profile->system[0] != '\0')
		system = profile->system;
	text_add_string(text, "{\"messages\":[");
	if (system != NULL)
		add_system(text, system);
	int rc = add_messages(writer, request);
	text_add_string(text, "],\"stream\":true");
	if (backend->request.include_usage)
		text_add_string(text, ",\"stream_options\":{\"include_usage\":true}");
	if (model[0] != '\0') {
		text_add_string(text, ",\"model\":");
		add_string(text, model);
	}
	add_options(text, &backend->request, profile, request);
	text_add_string(text, "}");
	return rc;
}

int chat_request_make(const struct config_backend *backend, const struct request *request, struct request_body **body,
                      const char **error)
{
	struct chat_writer writer = {0};
	int rc = -ENOMEM;

	*body = NULL;
	*error = check(backend, request);
	if (*error != NULL)
		return -EINVAL;
	writer.blobs = calloc(request->n_attachments + 1, sizeof(*writer.blobs));
	if (writer.blobs != NULL && write_body(&writer, backend, request) == 0)
		*body = request_body_new(&writer.text, writer.blobs, writer.n_blobs, request->data);
	else
		text_free(&writer.text);
	if (*body != NULL)
		rc = 0;
	free(writer.blobs);
	return rc;
}
