/* SPDX-License-Identifier: Apache-2.0
 *
 * Users: the rules of users.h.
 */
#include "users.h"

#include <unistd.h>

#include "daemon/common/log.h"

static bool complain(const char *error, const char *whose)
{
	log_event(LOG_ERR, "users", LOG_STR("error", error), LOG_STR("of", whose));
	return false;
}

static bool user_check(const struct config_user *user, const char *whose)
{
	if (geteuid() != 0) {
		if (user->name[0] == '\0' || user->uid == geteuid())
			return true;
		return complain("not started as root, so no role can become another user", whose);
	}
	if (user->name[0] == '\0')
		return complain("started as root, and the configuration names no user to become", whose);
	if (user->uid == 0 || user->gid == 0)
		return complain("no role may run as root or in its group", whose);
	return true;
}

bool users_check(const struct config *config)
{
	const struct config_user *gate = &config->user[ROLE_GATE];
	const struct config_user *dialer = &config->user[ROLE_DIALER];
	/* All of them are checked, so that all that is wrong is said. */
	bool right = user_check(gate, "gate-user");

	right = user_check(dialer, "dialer-user") && right;

	for (size_t i = 0; i < config->n_backends; i++) {
		const struct config_user *user = &config->backends[i].user;

		right = user_check(user, config->backends[i].name) && right;
		if (right && geteuid() == 0 && (user->uid == gate->uid || user->uid == dialer->uid))
			right =
			    complain("a streamer must not share a user with gate or dialer", config->backends[i].name);
	}
	if (right && geteuid() == 0 && gate->uid == dialer->uid)
		right = complain("gate and dialer must not share a user", "dialer-user");
	return right;
}
