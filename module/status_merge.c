/* SPDX-License-Identifier: Apache-2.0
 *
 * Merging: the same metrics of several daemons are one family, with a label that tells whose they are. A daemon's word
 * is taken for its numbers only: names are those of daemons, never of the module.
 */
#include <errno.h>

#include "lib/exposition.h"

#include "status.h"

static bool starts_with(struct span text, const char *prefix)
{
	size_t len = strlen(prefix);

	return text.len >= len && memcmp(text.data, prefix, len) == 0;
}

/* Whether a sample of this name belongs to the family. */
static bool belongs(struct span name, const struct exposition_line *type)
{
	static const char *const endings[] = {"_bucket", "_sum", "_count"};

	if (!span_equal_string(type->value, "histogram"))
		return span_equal(name, type->name);
	if (name.len <= type->name.len || memcmp(name.data, type->name.data, type->name.len) != 0)
		return false;
	struct span ending = span_of(name.data + type->name.len, name.len - type->name.len);
	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++)
		if (span_equal_string(ending, endings[i]))
			return true;
	return false;
}

/* The label that names the daemon is ours. */
static bool labels_allowed(struct span labels)
{
	struct span name, value;

	while (exposition_label(&labels, &name, &value) == 1)
		if (span_equal_string(name, "daemon"))
			return false;
	return true;
}

static bool line_allowed(const struct exposition_line *line, struct exposition_line *type)
{
	if (!starts_with(line->name, "daemon_") && !starts_with(line->name, "handoffd_"))
		return false;
	if (line->kind == EXPOSITION_TYPE)
		*type = *line;
	return line->kind != EXPOSITION_SAMPLE ||
	       (type->name.len > 0 && belongs(line->name, type) && labels_allowed(line->labels));
}

static int text_check(struct span text)
{
	struct exposition_line line, type = {.name = SPAN_EMPTY};
	int result;

	while ((result = exposition_next(&text, &line)) == 1)
		if (!line_allowed(&line, &type))
			return -EBADMSG;
	return result;
}

static struct status_family *family_of(struct status *status, struct span name)
{
	struct status_family *family = apr_hash_get(status->by_name, name.data, (apr_ssize_t)name.len);

	if (family)
		return family;
	family = apr_pcalloc(status->r->pool, sizeof(*family));
	family->name = name;
	family->type = SPAN_LITERAL("gauge");
	family->help = SPAN_LITERAL("");
	family->samples = apr_array_make(status->r->pool, 4, sizeof(struct status_sample));
	apr_hash_set(status->by_name, name.data, (apr_ssize_t)name.len, family);
	APR_ARRAY_PUSH(status->families, struct status_family *) = family;
	return family;
}

int status_merge(struct status *status, struct span text, const char *daemon)
{
	struct status_family *family = NULL;
	struct exposition_line line;

	if (text_check(text) != 0)
		return -EBADMSG;
	while (exposition_next(&text, &line) == 1) {
		/* text_check() has seen a family in front of each sample. */
		if (line.kind == EXPOSITION_SAMPLE && family) {
			APR_ARRAY_PUSH(family->samples, struct status_sample) = (struct status_sample){
			    .name = line.name, .daemon = daemon, .labels = line.labels, .value = line.value};
			continue;
		}
		family = family_of(status, line.name);
		if (line.kind == EXPOSITION_HELP)
			family->help = line.value;
		else
			family->type = line.value;
	}
	return 0;
}

struct status_family *status_family(struct status *status, const char *name, const char *type, const char *help)
{
	struct status_family *family = family_of(status, span_of_string(name));

	family->type = span_of_string(type);
	family->help = span_of_string(help);
	return family;
}

void status_add(struct status *status, struct status_family *family, const char *labels, uint64_t value)
{
	APR_ARRAY_PUSH(family->samples, struct status_sample) = (struct status_sample){
	    .name = family->name,
	    .labels = span_of_string(labels),
	    .value = span_of_string(apr_psprintf(status->r->pool, "%" APR_UINT64_T_FMT, value)),
	};
}

const char *status_escape(apr_pool_t *pool, const char *text)
{
	char *out = apr_palloc(pool, 2 * strlen(text) + 1), *p = out;

	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			*p++ = '\\';
		*p++ = *text < 0x20 || *text > 0x7e ? '?' : *text;
	}
	*p = '\0';
	return out;
}

const char *status_unescape(apr_pool_t *pool, struct span value)
{
	char *out = apr_palloc(pool, value.len + 1), *p = out;

	for (size_t i = 0; i < value.len; i++) {
		bool escaped = value.data[i] == '\\' && i + 1 < value.len;
		char c = (char)value.data[escaped ? ++i : i];
		*p++ = escaped && c == 'n' ? '\n' : c;
	}
	*p = '\0';
	return out;
}
