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

/* Whether one of the roles that are no pool's has this user. */
static bool is_of_a_role(const struct config *config, const struct config_user *user)
{
	return user->uid == config->user[ROLE_GATE].uid || user->uid == config->user[ROLE_DIALER].uid;
}

static bool backend_check(const struct config *config, const struct config_backend *backend)
{
	bool right = user_check(&backend->user, backend->name);

	if (right && geteuid() == 0 && is_of_a_role(config, &backend->user))
		return complain("a streamer must not share a user with gate or dialer", backend->name);
	return right;
}

/* The program that it starts has its user, so that this one's processes are to be nobody else's. */
static bool handler_check(const struct config *config, const struct config_handler *handler)
{
	if (!user_check(&handler->user, handler->name))
		return false;
	if (geteuid() != 0)
		return true;
	if (is_of_a_role(config, &handler->user))
		return complain("a handler must not share a user with gate or dialer", handler->name);
	for (size_t i = 0; i < config->n_backends; i++)
		if (config->backends[i].user.uid == handler->user.uid)
			return complain("a handler must not share a user with a streamer", handler->name);
	for (const struct config_handler *other = config->handlers; other < handler; other++)
		if (other->user.uid == handler->user.uid)
			log_event(LOG_WARNING, "user-shared", LOG_STR("handler", handler->name),
			          LOG_STR("with", other->name));
	return true;
}

bool users_check(const struct config *config)
{
	const struct config_user *gate = &config->user[ROLE_GATE];
	const struct config_user *dialer = &config->user[ROLE_DIALER];
	/* All of them are checked, so that all that is wrong is said. */
	bool right = user_check(gate, "gate-user");

	right = user_check(dialer, "dialer-user") && right;
	for (size_t i = 0; i < config->n_backends; i++)
		right = backend_check(config, &config->backends[i]) && right;
	for (size_t i = 0; i < config->n_handlers; i++)
		right = handler_check(config, &config->handlers[i]) && right;
	if (right && geteuid() == 0 && gate->uid == dialer->uid)
		right = complain("gate and dialer must not share a user", "dialer-user");
	return right;
}
