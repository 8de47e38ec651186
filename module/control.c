/* SPDX-License-Identifier: Apache-2.0
 *
 * Control headers: their names, in every spelling that some gateway takes for them.
 */
#include "apr_lib.h"

#include "module.h"

static const char *const names[CONTROL_COUNT] = {
#define CONTROL_NAME(symbol, name) [symbol] = (name),
    CONTROLS(CONTROL_NAME)
#undef CONTROL_NAME
};

/* Case does not count, and every byte that is no letter or digit is a dash: X_Handoff_Token and X-Handoff-Token become
 * the same variable of a program behind a proxy. */
static char fold(char c)
{
	return apr_isalnum(c) ? (char)apr_tolower(c) : '-';
}

static bool name_is(struct span key, const char *name)
{
	size_t i = 0;

	while (i < key.len && name[i] && fold((char)key.data[i]) == fold(name[i]))
		i++;
	return i == key.len && !name[i];
}

/* The control header of this name, CONTROL_COUNT when it is another header. */
static enum control control_of(struct span key)
{
	char first = key.len > 0 ? fold((char)key.data[0]) : '-';
	enum control c = 0;

	/* Nearly every header ends here. */
	if (first != 'x' && first != 'h')
		return CONTROL_COUNT;
	while (c < CONTROL_COUNT && !name_is(key, names[c]))
		c++;
	return c;
}

bool control_is(struct span key)
{
	return control_of(key) != CONTROL_COUNT;
}

static void control_note(struct controls *controls, enum control which, const char *value)
{
	/* A binding in a response means nothing; it must only not leave. */
	if (which == CONTROL_BINDING || which == CONTROL_X_BINDING)
		return;
	if (controls->value[which])
		controls->duplicate = true;
	controls->value[which] = value;
}

/* Note the control headers of a table when there is someone to note them for. Returns the key of one, or NULL. */
static const char *control_scan(const apr_table_t *table, struct controls *controls)
{
	const apr_array_header_t *all = apr_table_elts(table);
	const apr_table_entry_t *entry = (const apr_table_entry_t *)(const void *)all->elts;
	const char *found = NULL;

	for (int i = 0; i < all->nelts; i++) {
		if (!entry[i].key)
			continue;
		enum control which = control_of(span_of_string(entry[i].key));
		if (which == CONTROL_COUNT)
			continue;
		found = entry[i].key;
		if (controls)
			control_note(controls, which, entry[i].val);
	}
	return found;
}

void control_take(apr_table_t *table, struct controls *controls)
{
	const char *key = control_scan(table, controls);

	/* Each round removes all entries of one spelling. */
	while (key) {
		apr_table_unset(table, key);
		key = control_scan(table, NULL);
	}
}

void control_strip(apr_table_t *table)
{
	control_take(table, NULL);
}

/* The key of a header with this name, however it is written; NULL when there is none. */
static const char *spelling(const apr_table_t *table, const char *name)
{
	const apr_array_header_t *all = apr_table_elts(table);
	const apr_table_entry_t *entry = (const apr_table_entry_t *)(const void *)all->elts;

	for (int i = 0; i < all->nelts; i++)
		if (entry[i].key && name_is(span_of_string(entry[i].key), name))
			return entry[i].key;
	return NULL;
}

void control_strip_name(apr_table_t *table, const char *name)
{
	const char *key;

	while ((key = spelling(table, name)) != NULL)
		apr_table_unset(table, key);
}
