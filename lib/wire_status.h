/* SPDX-License-Identifier: Apache-2.0
 *
 * The status request, which a module may send on the connection it hands off by, and its answer. Little endian.
 *
 * Request, one message with one descriptor, the reply socket (SOCK_SEQPACKET, connected):
 *
 *     0  8   magic "HANDSTAT"
 *     8  4   total length of the message, 16
 *    12  4   zero
 *
 * Answer, one or more messages on the reply socket, each at most WIRE_STATUS_PART_MAX bytes:
 *
 *     0  8   magic "HANDSTAT"
 *     8  4   total length of the message
 *    12  4   number of the part, from 0
 *    16  8   instance: the same for all listeners of one gate, and another for each gate and run
 *    24  2   1 in the last part, else 0
 *    26  6   zero
 *    32      the text; parts may end anywhere in it
 *
 * An end of file before the last part: the answer is not whole. docs/protocol.md, section 6.
 */
#ifndef HANDOFF_WIRE_STATUS_H
#define HANDOFF_WIRE_STATUS_H

#include "bytes.h"

#define WIRE_STATUS_REQUEST_LEN     16
#define WIRE_STATUS_PART_HEADER_LEN 32
#define WIRE_STATUS_PART_MAX        65536

void wire_status_write(uint8_t out[WIRE_STATUS_REQUEST_LEN]);
/* Whether this message begins like a status request, so that it is none of the other kind. */
bool wire_status_meant(struct span message);
/* 0 or -EBADMSG. */
int wire_status_parse(struct span message);

struct wire_status_part {
	uint32_t sequence;
	bool last;
	uint64_t instance;
	struct span text; /* at most WIRE_STATUS_PART_MAX - WIRE_STATUS_PART_HEADER_LEN bytes */
};

/* Everything in front of the text. */
void wire_status_part_write(const struct wire_status_part *part, uint8_t out[WIRE_STATUS_PART_HEADER_LEN]);
/* 0 or -EBADMSG. The text borrows from the message. */
int wire_status_part_parse(struct span message, struct wire_status_part *part);

#endif
