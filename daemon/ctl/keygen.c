/* SPDX-License-Identifier: Apache-2.0
 *
 * handoffctl keygen: a new key as a line of a key ring.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"
#include "lib/fdpass.h"
#include "lib/keyring.h"

#define PATHS_MAX 16
#define LINE_SIZE 4096

struct request {
	char kid[KEYRING_KID_MAX + 1];
	const char *paths[PATHS_MAX];
	size_t n_paths;
	const char *file; /* NULL: standard output */
};

static bool kid_valid(const char *kid)
{
	size_t len = strlen(kid);

	return len >= 1 && len <= KEYRING_KID_MAX && strspn(kid, "abcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

static bool path_valid(const char *path)
{
	return strcmp(path, "*") == 0 || (path[0] == '/' && strpbrk(path, " \t\r\n") == NULL && strlen(path) < 108);
}

static int request_add(struct request *request, int option)
{
	if (option == 'k') {
		if (!kid_valid(optarg))
			return ctl_usage("--kid takes 1 to %d of a-z 0-9 _ -", KEYRING_KID_MAX);
		strcpy(request->kid, optarg);
		return CTL_OK;
	}
	if (option != 'p')
		return ctl_usage("keygen does not take this");
	if (!path_valid(optarg))
		return ctl_usage("--path takes * or an absolute socket path without blanks");
	if (request->n_paths == PATHS_MAX)
		return ctl_usage("at most %d --path", PATHS_MAX);
	request->paths[request->n_paths++] = optarg;
	return CTL_OK;
}

static int request_read(struct request *request, int argc, char **argv)
{
	static const struct option options[] = {
	    {"kid", required_argument, NULL, 'k'}, {"path", required_argument, NULL, 'p'}, {NULL, 0, NULL, 0}};
	int option, result = CTL_OK;
	time_t now = time(NULL);
	struct tm tm;

	*request = (struct request){.n_paths = 0};
	/* The day it was made is what one wants to know of a key at rotation. */
	strftime(request->kid, sizeof(request->kid), "k%Y%m%d-%H%M%S", gmtime_r(&now, &tm));
	opterr = 0;
	while (result == CTL_OK && (option = getopt_long(argc, argv, "", options, NULL)) != -1)
		result = request_add(request, option);
	if (result != CTL_OK)
		return result;
	if (optind < argc - 1)
		return ctl_usage("keygen takes one FILE");
	if (optind == argc - 1)
		request->file = argv[optind];
	if (request->n_paths == 0)
		request->paths[request->n_paths++] = "*";
	return CTL_OK;
}

/* The line, ended, into out. */
static void line_make(char out[LINE_SIZE], const struct request *request)
{
	uint8_t key[KEYRING_KEY_LEN];
	char text[sodium_base64_ENCODED_LEN(KEYRING_KEY_LEN, sodium_base64_VARIANT_ORIGINAL)];

	randombytes_buf(key, sizeof(key));
	sodium_bin2base64(text, sizeof(text), key, sizeof(key), sodium_base64_VARIANT_ORIGINAL);
	int len = snprintf(out, LINE_SIZE, "%s sign %s", request->kid, text);
	for (size_t i = 0; i < request->n_paths; i++)
		len += snprintf(out + len, LINE_SIZE - (size_t)len, " %s", request->paths[i]);
	snprintf(out + len, LINE_SIZE - (size_t)len, "\n");
	sodium_memzero(key, sizeof(key));
	sodium_memzero(text, sizeof(text));
}

/* Whether the ring in file, when there is one, is sound and lacks this kid. */
static int ring_check(const struct request *request, off_t size)
{
	struct keyring *ring;
	char error[512];

	if (size == 0)
		return CTL_OK;
	if (keyring_load(&ring, request->file, geteuid(), error, sizeof(error)) != 0)
		return ctl_error("%s", error);
	const struct keyring_key *key = keyring_find(ring, span_of_string(request->kid));
	keyring_free(ring);
	return key ? ctl_error("%s: there is a key named %s already", request->file, request->kid) : CTL_OK;
}

/* One write at the end, under a lock: readers see the ring with the line or without it. */
static int file_append(const struct request *request, const char *line)
{
	int fd FD_CLEANUP =
	    open(request->file, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
	struct stat st;
	char last = '\n';

	if (fd < 0 || flock(fd, LOCK_EX) != 0 || fstat(fd, &st) != 0)
		return ctl_error("%s: %s", request->file, strerror(errno));
	int result = ring_check(request, st.st_size);
	if (result != CTL_OK)
		return result;
	if (st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) == 1 && last != '\n')
		return ctl_error("%s: its last line is not ended", request->file);
	size_t len = strlen(line);
	if (write(fd, line, len) != (ssize_t)len || fsync(fd) != 0)
		return ctl_error("%s: %s", request->file, strerror(errno));
	return CTL_OK;
}

int ctl_keygen(int argc, char **argv)
{
	struct request request;
	char line[LINE_SIZE];

	int result = request_read(&request, argc, argv);
	if (result != CTL_OK)
		return result;
	line_make(line, &request);
	if (request.file)
		result = file_append(&request, line);
	else if (fputs(line, stdout) == EOF || fflush(stdout) != 0)
		result = ctl_error("standard output: %s", strerror(errno));
	sodium_memzero(line, sizeof(line));
	return result;
}
