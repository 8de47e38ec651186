/* SPDX-License-Identifier: Apache-2.0
 *
 * The status for programs: Prometheus text and JSON. Names, labels and numbers have been checked on their way in.
 */
#include "lib/exposition.h"

#include "status.h"

static void put(request_rec *r, struct span text)
{
	ap_rwrite(text.data, (int)text.len, r);
}

/* ---------------------------------------------------------------- Prometheus */

static void prometheus_sample(request_rec *r, const struct status_sample *sample)
{
	bool some = sample->daemon || sample->labels.len > 0;

	put(r, sample->name);
	if (some)
		ap_rputs("{", r);
	if (sample->daemon)
		ap_rprintf(r, "daemon=\"%s\"%s", sample->daemon, sample->labels.len > 0 ? "," : "");
	put(r, sample->labels);
	ap_rputs(some ? "} " : " ", r);
	put(r, sample->value);
	ap_rputs("\n", r);
}

void status_write_prometheus(const struct status *status)
{
	request_rec *r = status->r;

	for (int i = 0; i < status->families->nelts; i++) {
		const struct status_family *family = STATUS_FAMILY(status, i);
		ap_rputs("# HELP ", r);
		put(r, family->name);
		ap_rputs(" ", r);
		put(r, family->help);
		ap_rputs("\n# TYPE ", r);
		put(r, family->name);
		ap_rputs(" ", r);
		put(r, family->type);
		ap_rputs("\n", r);
		for (int k = 0; k < family->samples->nelts; k++)
			prometheus_sample(r, &STATUS_SAMPLE(family, k));
	}
}

/* ---------------------------------------------------------------- JSON */

/* A string with its quotes. Bytes above ASCII become question marks: they come from paths, which have no encoding. */
static void json_string(request_rec *r, struct span text)
{
	ap_rputs("\"", r);
	for (size_t i = 0; i < text.len; i++) {
		uint8_t c = text.data[i];
		if (c == '"' || c == '\\')
			ap_rprintf(r, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			ap_rprintf(r, "\\u%04x", c);
		else
			ap_rputc(c < 0x80 ? c : '?', r);
	}
	ap_rputs("\"", r);
}

/* A member and what goes before it. */
static void json_member(request_rec *r, const char *before, const char *name, const char *value)
{
	ap_rprintf(r, "%s\"%s\":", before, name);
	json_string(r, span_of_string(value));
}

static void json_listeners(const struct status *status)
{
	request_rec *r = status->r;

	ap_rputs("\"listeners\":[", r);
	for (int i = 0; i < status->listeners->nelts; i++) {
		const struct status_listener *listener = &STATUS_LISTENER(status, i);
		json_member(r, i ? ",\n{" : "\n{", "path", listener->path);
		ap_rprintf(r, ",\"up\":%s", listener->up ? "true" : "false");
		if (listener->up)
			json_member(r, ",", "daemon", listener->daemon);
		else
			json_member(r, ",", "problem", listener->problem);
		if (!listener->up)
			json_member(r, ",", "detail", listener->detail);
		ap_rputs("}", r);
	}
	ap_rputs("],\n", r);
}

static void json_checks(const struct status *status)
{
	request_rec *r = status->r;

	ap_rputs("\"checks\":[", r);
	for (int i = 0; i < status->checks->nelts; i++) {
		const struct status_check *check = &STATUS_CHECK(status, i);
		json_member(r, i ? ",\n{" : "\n{", "name", check->name);
		json_member(r, ",", "state", check->state);
		json_member(r, ",", "text", check->text);
		ap_rputs("}", r);
	}
	ap_rputs("],\n", r);
}

static void json_sample(request_rec *r, const struct status_sample *sample)
{
	struct span labels = sample->labels, name, value;
	const char *comma = "";

	ap_rputs("{\"name\":", r);
	json_string(r, sample->name);
	ap_rputs(",\"labels\":{", r);
	if (sample->daemon) {
		json_member(r, "", "daemon", status_unescape(r->pool, span_of_string(sample->daemon)));
		comma = ",";
	}
	while (exposition_label(&labels, &name, &value) == 1) {
		ap_rputs(comma, r);
		json_string(r, name);
		ap_rputs(":", r);
		json_string(r, span_of_string(status_unescape(r->pool, value)));
		comma = ",";
	}
	ap_rputs("},\"value\":", r);
	put(r, sample->value);
	ap_rputs("}", r);
}

static void json_metrics(const struct status *status)
{
	request_rec *r = status->r;

	ap_rputs("\"metrics\":[", r);
	for (int i = 0; i < status->families->nelts; i++) {
		const struct status_family *family = STATUS_FAMILY(status, i);
		ap_rputs(i ? ",\n{\"name\":" : "\n{\"name\":", r);
		json_string(r, family->name);
		ap_rputs(",\"type\":", r);
		json_string(r, family->type);
		ap_rputs(",\"help\":", r);
		json_string(r, family->help);
		ap_rputs(",\"samples\":[", r);
		for (int k = 0; k < family->samples->nelts; k++) {
			if (k)
				ap_rputs(",", r);
			json_sample(r, &STATUS_SAMPLE(family, k));
		}
		ap_rputs("]}", r);
	}
	ap_rputs("]\n", r);
}

void status_write_json(const struct status *status)
{
	request_rec *r = status->r;

	ap_rprintf(r, "{\"time\":%" APR_TIME_T_FMT ",\n", apr_time_sec(r->request_time));
	json_listeners(status);
	json_checks(status);
	json_metrics(status);
	ap_rputs("}\n", r);
}
