/* SPDX-License-Identifier: Apache-2.0
 *
 * Access log: the file that gets a line for each stream that ends. Opened before the process gives up its rights, and
 * only written to afterwards, each line with one call and at the end of the file, so that processes can share it.
 *
 * A file that was moved away is written on by the processes that have it open; those that replace them make a new one.
 */
#ifndef HANDOFFD_STREAMER_ACCESS_LOG_H
#define HANDOFFD_STREAMER_ACCESS_LOG_H

#include "access_line.h"

/* Open the file of this worker, if one is configured; fatal() when that fails. */
void access_log_open(const struct config *config, size_t backend, size_t worker);

/* Whether there is one: entries need not be put together for nothing. */
bool access_log_is_open(void);

/* A line that cannot be written is lost and counted. */
void access_log_write(const struct access_entry *entry);

#endif
