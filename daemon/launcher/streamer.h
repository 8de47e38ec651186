/* SPDX-License-Identifier: Apache-2.0
 *
 * Streamer: the launcher's side of the streamers' channels. On one a streamer asks for places, begins runs in those
 * that it was given, and ends them; when it closes, its runs are killed. A message that does not fit what was asked
 * before is no mistake of an honest streamer: the channel is closed for it.
 */
#ifndef LAUNCHER_STREAMER_H
#define LAUNCHER_STREAMER_H

#include "run.h"

/* Before the first streamer. handler is the number of the runner's section. */
void streamers_init(const struct runner *runner, const struct config *config, size_t handler);

/* Take over a channel that the gate introduced (fd is closed when it cannot be used). Returns 0, -EINVAL when the
 * configuration has no such backend or worker or that backend has another handler, -EMFILE when there are too many
 * channels, or -ENOMEM. */
int streamer_open(uint32_t backend, uint32_t worker, int fd);

/* Give no more places. idle is called, perhaps at once, when no run and no place that was given is left. */
void streamers_stop(void (*idle)(void));

/* Tell all runs to end. */
void streamers_end(void);

#endif
