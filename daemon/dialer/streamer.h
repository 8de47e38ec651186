/* SPDX-License-Identifier: Apache-2.0
 *
 * Streamer: the dialer's side of one streamer's channel. It may have connections to
 * the upstream of its own backend, and to no other.
 */
#ifndef DIALER_STREAMER_H
#define DIALER_STREAMER_H

#include <ev.h>

#include "daemon/common/config.h"

/* Take over a channel that the gate introduced (fd is closed when it cannot be used). Returns 0, -EINVAL when the
 * configuration has no such backend or worker, -EMFILE when there are too many channels, or -ENOMEM. */
int streamer_open(struct ev_loop *loop, const struct config *config, uint32_t backend, uint32_t worker, int fd);

#endif
