/* SPDX-License-Identifier: Apache-2.0
 *
 * No connect: libcurl calls connect() also on a socket that is connected already, and takes only "in progress" for an
 * answer. The dialer connects; this process has no use for the call, so after its start connect() only ever gives that
 * answer, in the cage (where the kernel gives it too) and outside of it.
 */
#ifndef HANDOFFD_STREAMER_NO_CONNECT_H
#define HANDOFFD_STREAMER_NO_CONNECT_H

/* From now on connect() in this process returns EINPROGRESS and does nothing. */
void no_connect_begin(void);

#endif
