/* SPDX-License-Identifier: Apache-2.0
 *
 * The status for people. Everything that is not from here is escaped.
 */
#include <stdlib.h>

#include "lib/exposition.h"

#include "status.h"

static const char page_head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
    "<title>Socket handoff status</title>\n<style>\n"
    ":root { color-scheme: light dark }\n"
    "body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem }\n"
    "table { border-collapse: collapse; width: 100%; margin: 0 0 2rem }\n"
    "caption { text-align: left; font-weight: bold; padding: .25rem 0 }\n"
    "th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; "
    "border-top: 1px solid #8888; font-weight: normal }\n"
    "thead th { font-weight: bold }\n"
    "td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }\n"
    "code { overflow-wrap: anywhere }\n"
    "small { display: block }\n"
    ".warning, .down { border-left: .4rem solid #c00; padding-left: .5rem }\n"
    "</style>\n</head>\n<body>\n<main>\n<h1>Socket handoff status</h1>\n";

static const char *html(request_rec *r, struct span text)
{
	return ap_escape_html(r->pool, apr_pstrmemdup(r->pool, (const char *)text.data, text.len));
}

static const char *html_string(request_rec *r, const char *text)
{
	/* Paths may hold bytes that are no UTF-8. */
	return ap_escape_html2(r->pool, text, 1);
}

static void write_checks(const struct status *status)
{
	static const struct {
		const char *state, *word;
	} words[] = {{"warning", "Warning"}, {"good", "Good"}, {"unknown", "Not known"}};
	request_rec *r = status->r;

	ap_rputs("<table>\n<caption>PHP and its rights</caption>\n", r);
	for (int i = 0; i < status->checks->nelts; i++) {
		const struct status_check *check = &STATUS_CHECK(status, i);
		const char *word = "";
		for (size_t k = 0; k < sizeof(words) / sizeof(words[0]); k++)
			if (strcmp(words[k].state, check->state) == 0)
				word = words[k].word;
		ap_rprintf(r, "<tr><th scope=\"row\" class=\"%s\" id=\"%s\">%s</th><td>%s</td></tr>\n", check->state,
		           check->name, word, html_string(r, check->text));
	}
	ap_rputs("</table>\n", r);
}

static void write_listeners(const struct status *status)
{
	request_rec *r = status->r;

	ap_rputs("<table>\n<caption>Listeners of the daemon</caption>\n<thead><tr><th scope=\"col\">Socket</th>"
	         "<th scope=\"col\">State</th></tr></thead>\n<tbody>\n",
	         r);
	for (int i = 0; i < status->listeners->nelts; i++) {
		const struct status_listener *listener = &STATUS_LISTENER(status, i);
		ap_rprintf(r, "<tr><th scope=\"row\"><code>%s</code></th>", html_string(r, listener->path));
		if (!listener->up)
			ap_rprintf(r, "<td class=\"down\">Down: %s <small>%s</small></td></tr>\n",
			           html_string(r, listener->problem), html_string(r, listener->detail));
		else if (strcmp(listener->daemon, listener->path) == 0)
			ap_rputs("<td>Up</td></tr>\n", r);
		else
			ap_rprintf(r, "<td>Up <small>the same daemon as <code>%s</code></small></td></tr>\n",
			           html_string(r, listener->daemon));
	}
	if (status->listeners->nelts == 0)
		ap_rputs("<tr><td colspan=\"2\">None: neither SocketHandoffStatusSocket nor SocketHandoffSocket names "
		         "one here.</td></tr>\n",
		         r);
	ap_rputs("</tbody>\n</table>\n", r);
}

/* ---------------------------------------------------------------- numbers */

static bool is_zero(const struct status_sample *sample)
{
	return span_equal_string(sample->value, "0");
}

static double number(const struct status_sample *sample)
{
	char text[48];

	apr_cpystrn(text, (const char *)sample->value.data, sample->value.len + 1);
	return strtod(text, NULL);
}

/* Labels as people read them, without the one called but. */
static const char *labels_text(request_rec *r, const struct status_sample *sample, const char *but)
{
	struct span labels = sample->labels, name, value;
	const char *text = sample->daemon ? apr_pstrcat(r->pool, "daemon ",
	                                                status_unescape(r->pool, span_of_string(sample->daemon)), NULL)
	                                  : "";

	while (exposition_label(&labels, &name, &value) == 1) {
		if (but && span_equal_string(name, but))
			continue;
		text = apr_psprintf(r->pool, "%s%s%s %s", text, *text ? ", " : "",
		                    apr_pstrmemdup(r->pool, (const char *)name.data, name.len),
		                    status_unescape(r->pool, value));
	}
	return html_string(r, text);
}

static void write_row(request_rec *r, const char *labels, const char *value)
{
	ap_rprintf(r, "<tr><td>%s</td><td class=\"number\">%s</td></tr>\n", labels, value);
}

/* Where the numbers differ in labels only, those that are 0 say nothing. */
static void write_numbers(request_rec *r, const struct status_family *family)
{
	int zeros = 0;

	for (int i = 0; i < family->samples->nelts; i++) {
		const struct status_sample *sample = &STATUS_SAMPLE(family, i);
		if (is_zero(sample) && family->samples->nelts > 8)
			zeros++;
		else
			write_row(r, labels_text(r, sample, NULL), html(r, sample->value));
	}
	if (zeros > 0)
		write_row(r, apr_psprintf(r->pool, "%d others", zeros), "0");
}

/* A sample's bound, from its last label. */
static const char *bucket_bound(request_rec *r, const struct status_sample *sample)
{
	struct span labels = sample->labels, name, value = SPAN_EMPTY;

	while (exposition_label(&labels, &name, &value) == 1)
		;
	return status_unescape(r->pool, value);
}

/* One series of a histogram: its buckets up to here have been seen, this is its sum, the next its count. */
static void write_series(request_rec *r, const struct status_family *family, int first, int sum)
{
	const struct status_sample *count = &STATUS_SAMPLE(family, sum + 1);
	double total = number(count);
	int at = first;

	if (total <= 0) {
		write_row(r, labels_text(r, count, NULL), "0");
		return;
	}
	while (at < sum - 1 && number(&STATUS_SAMPLE(family, at)) < 0.99 * total)
		at++;
	const char *bound = bucket_bound(r, &STATUS_SAMPLE(family, at));
	bool open = strcmp(bound, "+Inf") == 0;
	write_row(r, labels_text(r, count, NULL),
	          apr_psprintf(r->pool, "%s, mean %.6g s%s%s%s", html(r, count->value),
	                       number(&STATUS_SAMPLE(family, sum)) / total, open ? "" : ", 99 % within ",
	                       open ? "" : apr_psprintf(r->pool, "%g", strtod(bound, NULL)), open ? "" : " s"));
}

static bool ends_with(struct span text, const char *ending)
{
	size_t len = strlen(ending);

	return text.len >= len && memcmp(text.data + text.len - len, ending, len) == 0;
}

static void write_histogram(request_rec *r, const struct status_family *family)
{
	int first = 0;

	for (int i = 0; i + 1 < family->samples->nelts; i++) {
		if (!ends_with(STATUS_SAMPLE(family, i).name, "_sum") || i == first)
			continue;
		write_series(r, family, first, i);
		first = i + 2;
	}
}

static void write_families(const struct status *status)
{
	request_rec *r = status->r;

	ap_rputs("<table>\n<caption>Numbers</caption>\n<thead><tr><th scope=\"col\">Of</th><th scope=\"col\">Value</th>"
	         "</tr></thead>\n",
	         r);
	for (int i = 0; i < status->families->nelts; i++) {
		const struct status_family *family = STATUS_FAMILY(status, i);
		ap_rprintf(
		    r,
		    "<tbody>\n<tr><th scope=\"rowgroup\" colspan=\"2\">%s <small><code>%s</code></small></th></tr>\n",
		    html(r, family->help), html(r, family->name));
		if (span_equal_string(family->type, "histogram"))
			write_histogram(r, family);
		else
			write_numbers(r, family);
		ap_rputs("</tbody>\n", r);
	}
	ap_rputs("</table>\n", r);
}

void status_write_html(const struct status *status)
{
	request_rec *r = status->r;

	ap_rputs(page_head, r);
	ap_rprintf(r,
	           "<p>Server %s. For programs: <a href=\"?format=json\">JSON</a>, "
	           "<a href=\"?format=prometheus\">Prometheus</a>.</p>\n",
	           html_string(r, r->server->server_hostname ? r->server->server_hostname : ""));
	write_checks(status);
	write_listeners(status);
	write_families(status);
	ap_rputs("</main>\n</body>\n</html>\n", r);
}
