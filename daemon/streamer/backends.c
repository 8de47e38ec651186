/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of backends: one row each.
 */
#include "backend.h"

static const struct backend_type_ops *const backends[] = {
    &backend_demo,
    &backend_openai,
    &backend_handler,
};

const struct backend_type_ops *backend_find(enum backend_type type)
{
	for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++)
		if (backends[i]->type == type)
			return backends[i];
	return NULL;
}
