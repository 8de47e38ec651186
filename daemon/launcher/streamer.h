/* SPDX-License-Identifier: Apache-2.0
 *
 * Streamer: the launcher's side of the streamers' channels.
 */
#ifndef LAUNCHER_STREAMER_H
#define LAUNCHER_STREAMER_H

#include <ev.h>

#include "daemon/common/config.h"

/* Before the first streamer. handler is the number of the launcher's section. */
void streamers_init(struct ev_loop *loop, const struct config *config, size_t handler);

/* Take over a channel that the gate introduced (fd is closed when it cannot be used). Returns 0, -EINVAL when the
 * configuration has no such backend or worker or that backend has another handler, -EMFILE when there are too many
 * channels, or -ENOMEM. */
int streamer_open(uint32_t backend, uint32_t worker, int fd);

#endif
