/* SPDX-License-Identifier: Apache-2.0
 *
 * Data: see data.h.
 */
#include "data.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

int data_map(struct data *data, int fd, size_t size)
{
	void *mapping = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);

	*data = (struct data){0};
	if (mapping == MAP_FAILED)
		return -errno;
	data->mapping = mapping;
	data->span = span_of(mapping, size);
	return 0;
}

int data_keep(struct data *kept, struct data *from)
{
	*kept = *from;
	from->mapping = NULL;
	from->copy = NULL;
	if (kept->mapping != NULL || kept->copy != NULL || kept->span.len == 0)
		return 0;
	kept->copy = malloc(kept->span.len);
	if (kept->copy == NULL) {
		*kept = (struct data){0};
		return -ENOMEM;
	}
	memcpy(kept->copy, kept->span.data, kept->span.len);
	kept->span.data = kept->copy;
	return 0;
}

void data_close(struct data *data)
{
	if (data->mapping != NULL)
		munmap(data->mapping, data->span.len);
	free(data->copy);
	*data = (struct data){0};
}
