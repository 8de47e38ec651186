/* SPDX-License-Identifier: Apache-2.0
 *
 * Door: what only the launcher's has, see door_launcher.c.
 */
#ifndef TESTS_REDTEAM_DOOR_H
#define TESTS_REDTEAM_DOOR_H

/* Start the section's program in the cage of a run, with this environment, wait
 * for its end and end as it did. */
__attribute__((noreturn, weak)) void door_start_program(char *const *environment);

#endif
