/* SPDX-License-Identifier: Apache-2.0
 *
 * Challenges: the random part of bindings. They are drawn from the kernel many at a time, since a system call for each
 * request would be the dearest part of a binding. Each is handed out once: used ones are wiped, and after a fork the
 * child finds nothing to hand out and draws its own.
 */
#ifndef MOD_SOCKET_HANDOFF_CHALLENGE_H
#define MOD_SOCKET_HANDOFF_CHALLENGE_H

#include <stdint.h>

#include "lib/binding.h"

/* Once in each child. Without it, or where the kernel cannot wipe memory on a fork, each challenge is drawn alone. */
void challenge_init(void);
/* The next one. Any thread may ask. */
void challenge_take(uint8_t challenge[BINDING_CHALLENGE_LEN]);

#endif
