/* SPDX-License-Identifier: Apache-2.0
 *
 * Wiped memory: see wiped_memory.h.
 */
#include "wiped_memory.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

void wiped_free(void *memory)
{
	if (memory != NULL)
		explicit_bzero(memory, malloc_usable_size(memory));
	free(memory);
}

/* realloc() would leave the old place as it was. */
void *wiped_realloc(void *memory, size_t size)
{
	size_t had;
	void *moved;

	if (memory == NULL)
		return calloc(1, size);
	had = malloc_usable_size(memory);
	if (had >= size)
		return memory;
	moved = malloc(size);
	if (moved == NULL)
		return NULL;
	memcpy(moved, memory, had);
	wiped_free(memory);
	return moved;
}
