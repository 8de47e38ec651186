/* SPDX-License-Identifier: Apache-2.0
 *
 * Verify: first the form of the control headers, then, over the raw bytes, the token. The order and the reasons are
 * those of docs/protocol.md, sections 1 and 2.
 */
#include <assert.h>
#include <time.h>

#include "lib/token.h"

#include "module.h"

static_assert(sizeof(((struct handoff *)0)->data_digest) == TOKEN_DIGEST_LEN, "the digest fits");

/* No blanks at an end, no control bytes: servers trim and merge, so nothing may depend on them. */
static bool value_clean(const char *value)
{
	size_t len = strlen(value);

	if (len > 0 && (value[0] == ' ' || value[len - 1] == ' '))
		return false;
	for (const char *p = value; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
	return true;
}

/* Two headers of one name that a server has merged. JSON has commas of its own: merged data fails at the digest. */
static bool value_merged(enum control which, const char *value)
{
	return which != CONTROL_DATA && strstr(value, ", ") != NULL;
}

/* Raw mode does without a list, as the original module does. The prefix is checked with the real path, on connecting.
 */
static bool socket_listed(const struct directory_config *config, const char *path)
{
	if (!config->sockets)
		return true;
	for (int i = 0; i < config->sockets->nelts; i++) {
		const char *listed = APR_ARRAY_IDX(config->sockets, i, const char *);
		if (strcmp(listed, path) == 0 || strcmp(listed, SOCKETS_ALL) == 0)
			return true;
	}
	return false;
}

static enum reason verify_values(const struct controls *controls)
{
	if (controls->duplicate)
		return REASON_HEADER_DUPLICATE;
	for (enum control c = 0; c < CONTROL_COUNT; c++) {
		const char *value = controls->value[c];
		if (!value)
			continue;
		if (!value_clean(value))
			return REASON_HEADER_INVALID;
		if (value_merged(c, value))
			return REASON_HEADER_DUPLICATE;
	}
	return REASON_OK;
}

enum reason verify_form(struct handoff *handoff)
{
	const struct controls *controls = &handoff->controls;
	const char *path = controls->value[CONTROL_SOCKET];
	const char *source = controls->value[CONTROL_DATA_SOURCE];
	const char *subject = controls->value[CONTROL_SUBJECT];

	enum reason reason = verify_values(controls);
	if (reason != REASON_OK)
		return reason;
	/* The module does not look into "parts": to it, both are a body. */
	if (source && (controls->value[CONTROL_DATA] || (strcmp(source, "body") != 0 && strcmp(source, "parts") != 0)))
		return REASON_DATA_SOURCE;
	if (path[0] != '/' || strlen(path) > SOCKET_PATH_MAX || !socket_listed(handoff->config, path))
		return REASON_PATH_FORBIDDEN;
	if (subject && strlen(subject) > 256)
		return REASON_HEADER_INVALID;
	return REASON_OK;
}

/* The data the token must speak for. */
static enum reason verify_data(struct handoff *handoff)
{
	const char *header = handoff->controls.value[CONTROL_DATA];

	if (handoff->body_is_data)
		handoff->data = span_of(handoff->body ? handoff->body : (const uint8_t *)"", handoff->body_len);
	else
		handoff->data = span_of_string(header ? header : "");
	if (handoff->data.len > (size_t)setting(handoff->config, SETTING_MAX_DATA))
		return REASON_DATA_TOO_LARGE;
	token_digest(handoff->data_digest, handoff->data);
	return REASON_OK;
}

enum reason verify_token(request_rec *r, struct handoff *handoff)
{
	const struct server_config *server = ap_get_module_config(r->server->module_config, &socket_handoff_module);
	const char *token = handoff->controls.value[CONTROL_TOKEN];
	const char *subject = handoff->controls.value[CONTROL_SUBJECT];
	bool required = setting(handoff->config, SETTING_REQUIRE_TOKEN);

	enum reason reason = verify_data(handoff);
	if (reason != REASON_OK)
		return reason;
	if (!token && !required)
		return REASON_OK;
	if (!token)
		return REASON_TOKEN_MISSING;
	/* A token that is neither required nor can be checked here is the daemon's to judge. */
	if (!server->ring)
		return required ? REASON_TOKEN_KEY_UNKNOWN : REASON_OK;
	/* The client had gone before a binding could be made. */
	if (!handoff->binding[0])
		return REASON_CLIENT_GONE;

	struct token_claims claims = {
	    .binding = span_of_string(handoff->binding),
	    .socket_path = span_of_string(handoff->controls.value[CONTROL_SOCKET]),
	    .subject = span_of_string(subject ? subject : ""),
	};
	memcpy(claims.data_digest, handoff->data_digest, sizeof(claims.data_digest));
	return token_verify(server->ring, span_of_string(token), &claims, time(NULL), handoff->kid);
}
