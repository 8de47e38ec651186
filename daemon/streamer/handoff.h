/* SPDX-License-Identifier: Apache-2.0
 *
 * Handoff: from the gate's message to a stream or a refusal.
 */
#ifndef HANDOFFD_STREAMER_HANDOFF_H
#define HANDOFFD_STREAMER_HANDOFF_H

#include "daemon/common/channel.h"
#include "streamer.h"

/* Accept or refuse one MESSAGE_HANDOFF and answer on its reply socket. Takes over all of the message's descriptors. */
void handoff_take(struct streamer *streamer, struct message *message);

#endif
