/* SPDX-License-Identifier: Apache-2.0
 *
 * Access log: see access_log.h.
 */
#include "access_log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/common/log.h"
#include "daemon/common/metrics.h"

#define LINE_KEPT 4096 /* an unusually long line does not leave its memory behind */

static struct {
	int fd;
	enum config_log_format format;
	struct text line;
	uint64_t lost; /* since the last line that was written */
	bool cut;      /* the file ends within a line */
} access_log = {.fd = -1};

void access_log_open(const struct config *config, size_t backend, size_t worker)
{
	char path[PATH_MAX];
	struct stat status;
	mode_t mask;

	if (config_access_log(config, backend, worker, path, sizeof(path)) != 0)
		fatal("the name of the access log is too long");
	if (path[0] == '\0')
		return;
	/* Not through a link, which somebody with rights on the directory only could have put there; and not for ever,
	 * where there is a pipe without a reader. */
	mask = umask(027);
	access_log.fd =
	    open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0640);
	umask(mask);
	if (access_log.fd < 0)
		fatal("access log %s: %m", path);
	if (fstat(access_log.fd, &status) != 0 || !S_ISREG(status.st_mode))
		fatal("access log %s is not a file", path);
	access_log.format = config->access_log_format;
}

bool access_log_is_open(void)
{
	return access_log.fd >= 0;
}

static void lose(int error)
{
	metrics_add(METRIC_ACCESS_LOG_LOST, 1);
	if (access_log.lost++ == 0)
		log_event(LOG_ERR, "access-log-failed", LOG_STR("error", strerror(error)));
}

void access_log_write(const struct access_entry *entry)
{
	struct text *line = &access_log.line;
	ssize_t written;

	text_reset(line, LINE_KEPT);
	if (access_log.cut)
		text_add_string(line, "\n");
	access_line_write(line, access_log.format, entry);
	if (!text_ok(line)) {
		lose(ENOMEM);
		return;
	}
	written = write(access_log.fd, line->data, line->len);
	if (written != (ssize_t)line->len) {
		access_log.cut = access_log.cut || written > 0;
		lose(written < 0 ? errno : ENOSPC);
		return;
	}
	access_log.cut = false;
	if (access_log.lost > 0)
		log_event(LOG_NOTICE, "access-log-again", LOG_INT("lost", access_log.lost));
	access_log.lost = 0;
}
