/* SPDX-License-Identifier: Apache-2.0
 *
 * Wiped memory: libcurl and nghttp2 copy each request's head, with the credential in it, into ordinary memory and free
 * that as it is. With these in the place of free() and realloc() nothing is left of it.
 */
#ifndef HANDOFFD_STREAMER_WIPED_MEMORY_H
#define HANDOFFD_STREAMER_WIPED_MEMORY_H

#include <stddef.h>

void wiped_free(void *memory);
/* Never makes it smaller. */
void *wiped_realloc(void *memory, size_t size);

#endif
