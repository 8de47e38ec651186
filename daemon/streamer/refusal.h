/* SPDX-License-Identifier: Apache-2.0
 *
 * Refusal: the answer to a client that nobody else would answer, because its sender waits for no reply
 * (WIRE_FLAG_LEGACY).
 */
#ifndef HANDOFFD_STREAMER_REFUSAL_H
#define HANDOFFD_STREAMER_REFUSAL_H

/* Write a whole response with this status, as far as the socket takes it at once, and end our side. retry_after_s: 0
 * for none. The descriptor stays the caller's to close. */
void refusal_send(int client, unsigned status, unsigned retry_after_s);

#endif
