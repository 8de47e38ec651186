/* SPDX-License-Identifier: Apache-2.0
 *
 * Request options: see request_option.h.
 */
#include "request_option.h"

static bool is_number(const json_t *value, double min, double max)
{
	return json_is_number(value) && json_number_value(value) >= min && json_number_value(value) <= max;
}

static bool is_integer(const json_t *value, double min, double max)
{
	return json_is_integer(value) && is_number(value, min, max);
}

/* Any integer that there is. */
static bool is_whole(const json_t *value, double min, double max)
{
	(void)min;
	(void)max;
	return json_is_integer(value);
}

static bool is_boolean(const json_t *value, double min, double max)
{
	(void)min;
	(void)max;
	return json_is_boolean(value);
}

static bool is_string(const json_t *value, double min, double max)
{
	size_t len = json_string_length(value);

	return json_is_string(value) && (double)len >= min && (double)len <= max;
}

/* A string, or an array of strings. */
static bool is_stop(const json_t *value, double min, double max)
{
	size_t n = json_array_size(value);

	if (json_is_string(value))
		return json_string_length(value) > 0;
	for (size_t i = 0; i < n; i++)
		if (json_string_length(json_array_get(value, i)) == 0)
			return false;
	return json_is_array(value) && (double)n >= min && (double)n <= max;
}

/* An object that says what it is. */
static bool is_typed(const json_t *value, double min, double max)
{
	return is_string(json_object_get(value, "type"), min, max);
}

static bool is_typed_list(const json_t *value, double min, double max)
{
	size_t n = json_array_size(value);

	for (size_t i = 0; i < n; i++)
		if (!is_typed(json_array_get(value, i), 1, 64))
			return false;
	return json_is_array(value) && (double)n >= min && (double)n <= max;
}

static bool is_tool_choice(const json_t *value, double min, double max)
{
	return is_string(value, min, max) || is_typed(value, min, max);
}

/* An object of numbers. */
static bool is_bias(const json_t *value, double min, double max)
{
	for (void *i = json_object_iter((json_t *)value); i != NULL; i = json_object_iter_next((json_t *)value, i))
		if (!is_number(json_object_iter_value(i), min, max))
			return false;
	return json_is_object(value);
}

/* Ranges are those of the OpenAI API. What a model answers is one choice: more would cost more and come mixed. */
const struct request_option request_options[] = {
    {"temperature", is_number, 0, 2, "temperature is not a number from 0 to 2"},
    {"top_p", is_number, 0, 1, "top_p is not a number from 0 to 1"},
    {"presence_penalty", is_number, -2, 2, "presence_penalty is not a number from -2 to 2"},
    {"frequency_penalty", is_number, -2, 2, "frequency_penalty is not a number from -2 to 2"},
    {"seed", is_whole, 0, 0, "seed is not an integer"},
    {"n", is_integer, 1, 1, "n is not 1"},
    {"stop", is_stop, 1, 4, "stop is not a string or an array of 1 to 4 strings"},
    {"logit_bias", is_bias, -100, 100, "logit_bias is not an object of numbers from -100 to 100"},
    {"logprobs", is_boolean, 0, 0, "logprobs is not true or false"},
    {"top_logprobs", is_integer, 0, 20, "top_logprobs is not an integer from 0 to 20"},
    {"reasoning_effort", is_string, 1, 64, "reasoning_effort is not a string of 1 to 64 bytes"},
    {"response_format", is_typed, 1, 64, "response_format is not an object with a type"},
    {"tools", is_typed_list, 1, 128, "tools is not an array of 1 to 128 objects with a type"},
    {"tool_choice", is_tool_choice, 1, 64, "tool_choice is not a string or an object with a type"},
    {"parallel_tool_calls", is_boolean, 0, 0, "parallel_tool_calls is not true or false"},
    {"user", is_string, 1, 256, "user is not a string of 1 to 256 bytes"},
};

const size_t request_options_count = sizeof(request_options) / sizeof(request_options[0]);
