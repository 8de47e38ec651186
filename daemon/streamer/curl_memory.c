/* SPDX-License-Identifier: Apache-2.0
 *
 * Curl memory: see curl_memory.h.
 */
#include "curl_memory.h"

#include <curl/curl.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

static void wipe_and_free(void *memory)
{
	if (memory != NULL)
		explicit_bzero(memory, malloc_usable_size(memory));
	free(memory);
}

/* realloc() would leave the old place as it was. */
static void *move(void *memory, size_t size)
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
	wipe_and_free(memory);
	return moved;
}

int curl_memory_init(void)
{
	return curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, wipe_and_free, move, strdup, calloc) == CURLE_OK
	           ? 0
	           : -ENOMEM;
}
