/* SPDX-License-Identifier: Apache-2.0
 *
 * The door: a role's own program, with an attack in it that begins where the role would enter its event loop. It is the
 * objects and archives that the role is made of, linked once more with three functions wrapped by the linker; the
 * product's sources know nothing of it, and what is installed has no door.
 *
 *     close_range     leaves the descriptors of the runner open
 *     role_confine    closes the whole cage, by the product's own function; or puts single layers in force and makes
 *                     the attempt, since a role without its cage may refuse to go on
 *     ev_run          makes the attempt instead of serving
 */
#include <ev.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "attack.h"
#include "daemon/common/channel.h"
#include "daemon/common/role.h"
#include "door.h"
#include "layers.h"

/* The linker's names. */
int __wrap_close_range(unsigned first, unsigned last, int flags);
int __real_close_range(unsigned first, unsigned last, int flags);
void __wrap_role_confine(const struct role_context *context, const struct config_user *user, int backlog);
void __real_role_confine(const struct role_context *context, const struct config_user *user, int backlog);
int __wrap_ev_run(struct ev_loop *loop, int flags);

static const struct attack *attack;
static struct layers layers;
/* The environment of a program, when it is to make the attempt and not the role itself. */
static char *of_program[4];

/* Before main(): a role empties its environment. */
__attribute__((constructor)) static void enter(void)
{
	char pid[32];

	attack = attack_from_environment();
	if (attack == NULL)
		_exit(98);
	layers_from_environment(&layers);
	if (getenv("REDTEAM_PROGRAM") != NULL) {
		static const char *const names[] = {"REDTEAM_ATTACK", "REDTEAM_PARAMETERS", "REDTEAM_PROGRAM"};

		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (asprintf(&of_program[i], "%s=%s", names[i], getenv(names[i])) < 0)
				_exit(97);
	}
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("LISTEN_PID", pid, 1);
}

int __wrap_close_range(unsigned first, unsigned last, int flags)
{
	return __real_close_range(first, last < ATTACK_FD_FIRST ? last : ATTACK_FD_FIRST - 1, flags);
}

void __wrap_role_confine(const struct role_context *context, const struct config_user *user, int backlog)
{
	if (attack->setup != NULL)
		attack->setup();
	if (layers.whole) {
		__real_role_confine(context, user, backlog);
		return;
	}
	layers_apply(&layers, role_name(context->role), user);
	attack_run(attack);
}

int __wrap_ev_run(struct ev_loop *loop, int flags)
{
	(void)loop;
	(void)flags;
	if (of_program[0] != NULL)
		door_start_program(of_program);
	attack_run(attack);
}
