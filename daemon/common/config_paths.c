/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration paths: where the internal sockets and the secrets are.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the names of a later generation's sockets have besides. */
static void suffix(const struct config *config, char out[16])
{
	out[0] = '\0';
	if (config->generation > 0)
		snprintf(out, 16, ".%u", config->generation);
}

int config_streamer_socket(const struct config *config, size_t backend, size_t worker, char out[CONFIG_PATH_MAX])
{
	char generation[16];

	suffix(config, generation);
	int len = snprintf(out, CONFIG_PATH_MAX, "%s/streamer-%s-%zu%s.sock", config->runtime_dir,
	                   config->backends[backend].name, worker, generation);

	return len >= 0 && len < CONFIG_PATH_MAX ? 0 : -ENAMETOOLONG;
}

int config_dialer_socket(const struct config *config, char out[CONFIG_PATH_MAX])
{
	char generation[16];

	suffix(config, generation);
	int len = snprintf(out, CONFIG_PATH_MAX, "%s/dialer%s.sock", config->runtime_dir, generation);

	return len >= 0 && len < CONFIG_PATH_MAX ? 0 : -ENAMETOOLONG;
}

int config_launcher_socket(const struct config *config, size_t handler, char out[CONFIG_PATH_MAX])
{
	char generation[16];

	suffix(config, generation);
	int len = snprintf(out, CONFIG_PATH_MAX, "%s/launcher-%s%s.sock", config->runtime_dir,
	                   config->handlers[handler].name, generation);

	return len >= 0 && len < CONFIG_PATH_MAX ? 0 : -ENAMETOOLONG;
}

int config_access_log(const struct config *config, size_t backend, size_t worker, char *out, size_t size)
{
	size_t len = 0;

	for (const char *c = config->access_log; *c != '\0' && len < size; c++) {
		if (strncmp(c, "%b", 2) == 0)
			len += (size_t)snprintf(out + len, size - len, "%s", config->backends[backend].name);
		else if (strncmp(c, "%w", 2) == 0)
			len += (size_t)snprintf(out + len, size - len, "%zu", worker);
		else
			out[len++] = *c;
		c += *c == '%';
	}
	if (len >= size)
		return -ENAMETOOLONG;
	out[len] = '\0';
	return 0;
}

int config_secret_path(const char *name, const char *configured, char *out, size_t size)
{
	const char *directory = getenv("CREDENTIALS_DIRECTORY");
	int len;

	if (directory != NULL && directory[0] == '/') {
		len = snprintf(out, size, "%s/%s", directory, name);
		if (len < 0 || (size_t)len >= size)
			return -ENAMETOOLONG;
		if (access(out, F_OK) == 0)
			return 0;
	}
	len = snprintf(out, size, "%s", configured);
	return len >= 0 && (size_t)len < size ? 0 : -ENAMETOOLONG;
}
