/* SPDX-License-Identifier: Apache-2.0
 *
 * Handler request: see handler_request.h.
 */
#include "handler_request.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "lib/fdpass.h"
#include "lib/wire.h"

static bool has_control(struct span value)
{
	for (size_t i = 0; i < value.len; i++)
		if (value.data[i] < 0x20 || value.data[i] == 0x7f)
			return true;
	return false;
}

static void add_fact(struct handler_request *out, const char *name, struct span value)
{
	if (value.len == 0 || has_control(value))
		return;
	text_add_string(&out->text, "HANDOFF_");
	text_add_string(&out->text, name);
	text_add_string(&out->text, "=");
	text_add_span(&out->text, value);
	text_add(&out->text, "", 1);
	out->n_facts++;
}

static void add_number(struct handler_request *out, const char *name, uint64_t value)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%" PRIu64, value);
	add_fact(out, name, span_of_string(digits));
}

int handler_request_init(struct handler_request *out, const struct request *request, uint64_t id)
{
	static const struct {
		const char *name;
		enum wire_field_type field;
	} facts[] = {
	    {"METHOD", WIRE_METHOD},         {"TARGET", WIRE_TARGET},           {"PROTOCOL", WIRE_PROTOCOL},
	    {"CLIENT", WIRE_CLIENT_ADDRESS}, {"SERVER_NAME", WIRE_SERVER_NAME}, {"REQUEST_ID", WIRE_REQUEST_ID},
	    {"SUBJECT", WIRE_SUBJECT},       {"LISTENER", WIRE_SOCKET_PATH},
	};
	const struct span *field = request->wire->field;

	*out = (struct handler_request){.memfd = -1};
	add_number(out, "ID", id);
	for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++)
		add_fact(out, facts[i].name, field[facts[i].field]);
	add_number(out, "STATUS", get_le16(field[WIRE_STATUS].data));
	out->facts_len = out->text.len;
	if (request->memfd != NULL) {
		out->memfd = *request->memfd;
		*request->memfd = -1;
	} else {
		text_add_span(&out->text, request->data->span);
	}
	return text_ok(&out->text) ? 0 : -ENOMEM;
}

void handler_request_free(struct handler_request *request)
{
	text_free(&request->text);
	fd_close(&request->memfd);
}
