/* SPDX-License-Identifier: Apache-2.0
 *
 * Attack: one thing that a process of handoffd, once taken over, may try. An attack is a row of a table: `object` names
 * what the runner plants for it and looks at afterwards (objects.py); `attempt` runs inside the target, after its cage
 * has closed, and never decides whether it did harm. It says each system call before it makes it and what came of it,
 * and gives what it read to the runner, over a pipe that the target holds for it.
 *
 * An attempt must be harmless where it succeeds: it acts on what the runner planted and nothing else.
 */
#ifndef TESTS_REDTEAM_ATTACK_H
#define TESTS_REDTEAM_ATTACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum attack_base {
	BASE_ROOT, /* the baseline, and what each layer is added to: root with all of its capabilities */
	BASE_USER, /* the same as the user of the role, without capabilities: where root is exempt, or gains nothing */
};

struct attack {
	const char *name;
	int number; /* in the list of docs/redteam.md */
	const char *object;
	const char *primitive;
	enum attack_base base;
	void (*setup)(void); /* before the cage: what a role could have from its start; NULL for nothing */
	void (*attempt)(void);
};

/* Tables end with a row without a name; attack.c lists them. */
extern const struct attack attacks_files[], attacks_kernel[], attacks_memory[], attacks_network[], attacks_process[],
    attacks_resources[];

/* Descriptors that the runner leaves in a target, above all that a role has. */
enum {
	ATTACK_FD_FIRST = 190,
	ATTACK_FD_RESULT = 190, /* what is tried, seen and given */
	ATTACK_FD_HOLD = 191,   /* ends when the runner has looked at the target */
	ATTACK_FD_OBJECT = 192, /* an object that is a descriptor: a client's socket */
	ATTACK_FD_SECOND = 193,
};

/* The call is named before it is made; what it said is reported. Gives the result, -1 with errno when it failed. */
#define TRY(call, expression) (attack_step(#call), attack_result((long)(expression)))

void attack_step(const char *call);
long attack_result(long result);
void attack_give(const void *data, size_t len);

/* What the runner says about the object: a text ("" when it says nothing) or a number. */
const char *attack_text(const char *name);
uint64_t attack_number(const char *name);

/* Read a descriptor to its end and give what it holds. */
void attack_give_file(int fd);

/* Take the parameters and the name from the environment (REDTEAM_ATTACK, REDTEAM_PARAMETERS). */
const struct attack *attack_from_environment(void);
/* Attempt it, wait until the runner has looked, and end. */
__attribute__((noreturn)) void attack_run(const struct attack *attack);
/* All tables as JSON, one attack a line. */
void attack_list(void);

#endif
