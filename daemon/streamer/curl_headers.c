/* SPDX-License-Identifier: Apache-2.0
 *
 * Curl headers: see curl_headers.h.
 */
#include "curl_headers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/common/log.h"

struct curl_slist *curl_headers_node(const char *line, struct curl_slist *next)
{
	struct curl_slist *made = calloc(1, sizeof(*made));
	union {
		const char *in;
		char *out;
	} pointer = {.in = line}; /* libcurl only reads it */

	if (made == NULL)
		fatal("out of memory");
	made->data = pointer.out;
	made->next = next;
	return made;
}

int curl_headers_add(struct curl_slist **list, const struct transfer_field *field)
{
	struct curl_slist *node = calloc(1, sizeof(*node));

	if (node == NULL)
		return -ENOMEM;
	if (asprintf(&node->data, "%s: %s", field->name, field->value) < 0) {
		free(node);
		return -ENOMEM;
	}
	node->next = *list;
	*list = node;
	return 0;
}

void curl_headers_free(struct curl_slist *list, const struct curl_slist *shared)
{
	while (list != shared) {
		struct curl_slist *next = list->next;

		free(list->data);
		free(list);
		list = next;
	}
}
