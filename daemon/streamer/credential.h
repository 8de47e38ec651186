/* SPDX-License-Identifier: Apache-2.0
 *
 * Credential: the API key of a backend, read once before the process is caged.
 */
#ifndef HANDOFFD_STREAMER_CREDENTIAL_H
#define HANDOFFD_STREAMER_CREDENTIAL_H

#include <stddef.h>
#include <sys/types.h>

/* Read the file's one line and return prefix and line as a NUL-terminated string in sodium_malloc memory, read-only,
 * for the life of the process. The file must be regular, owned by root or reader, with a mode of 0640 or tighter; the
 * line must be printable ASCII without blanks. NULL and what is wrong (never any of the content) in error otherwise. */
char *credential_read(const char *file, uid_t reader, const char *prefix, char *error, size_t error_size);

#endif
