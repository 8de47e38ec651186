/* SPDX-License-Identifier: Apache-2.0
 *
 * Upstream head: what interests us of the head of an upstream's answer, whichever version of HTTP it came by.
 */
#ifndef HANDOFFD_STREAMER_UPSTREAM_HEAD_H
#define HANDOFFD_STREAMER_UPSTREAM_HEAD_H

#include <stdbool.h>
#include <stdint.h>

struct transfer_head {
	unsigned status;
	uint32_t retry_after; /* seconds, 0: none */
	bool is_json;         /* Content-Type is application/json */
};

/* Take what interests us of a header field; false when an answer with it is not acceptable: a body that is packed,
 * which was not asked for. */
bool upstream_head_take(struct transfer_head *head, const char *name, const char *value);

#endif
