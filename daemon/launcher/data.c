/* SPDX-License-Identifier: Apache-2.0
 *
 * Data: see data.h.
 */
#include "data.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/fdpass.h"

static const char name[] = "HANDOFF_DATA=";
#define NAME_LEN (sizeof(name) - 1)

static void variable_free(struct data *data)
{
	if (data->variable != NULL)
		explicit_bzero(data->variable, strlen(data->variable));
	free(data->variable);
	data->variable = NULL;
}

/* Room for a variable with that many bytes; *room is NULL when no variable can hold them. */
static int variable_begin(size_t len, char **room)
{
	*room = NULL;
	if (len >= DATA_VARIABLE_MAX - NAME_LEN)
		return 0;
	*room = malloc(NAME_LEN + len + 1);
	if (*room == NULL)
		return -ENOMEM;
	memcpy(*room, name, NAME_LEN);
	(*room)[NAME_LEN + len] = '\0';
	return 0;
}

/* Keep it when it is one string. */
static void variable_end(struct data *data, char *room, size_t len)
{
	if (memchr(room + NAME_LEN, '\0', len) == NULL) {
		data->variable = room;
		return;
	}
	explicit_bzero(room, NAME_LEN + len);
	free(room);
}

int data_of_bytes(struct span bytes, struct data *data)
{
	char *room;
	int result;

	*data = (struct data){.fd = memfd_make_sealed(bytes)};
	if (data->fd < 0)
		return data->fd;
	result = variable_begin(bytes.len, &room);
	if (result < 0) {
		data_free(data);
		return result;
	}
	if (room == NULL)
		return 0;
	if (bytes.len > 0)
		memcpy(room + NAME_LEN, bytes.data, bytes.len);
	variable_end(data, room, bytes.len);
	return 0;
}

/* Whether anybody could execute this memfd, on a system where it need not be so: what a client sent is no program.
 * Those of our own show what the system does. */
static bool needlessly_executable(int fd)
{
	static int needless = -1;
	struct stat st;

	if (needless < 0) {
		int own FD_CLEANUP = memfd_open("handoff-data");

		if (own < 0 || fstat(own, &st) != 0)
			return true;
		needless = (st.st_mode & 0111) == 0;
	}
	return needless == 1 && (fstat(fd, &st) != 0 || (st.st_mode & 0111) != 0);
}

/* Read len bytes from the beginning. The seals promise that they are there. */
static int read_all(int fd, char *out, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(fd, out + done, len - done, (off_t)done);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -EIO;
		if (n > 0)
			done += (size_t)n;
	}
	return 0;
}

int data_of_memfd(int fd, struct data *data)
{
	char *room = NULL;
	size_t size;
	int result;

	*data = (struct data){.fd = fd};
	/* Before its size is believed: until it is sealed anybody who has it may change that. */
	result = memfd_check_sealed(fd, &size) < 0 ? -EBADMSG : needlessly_executable(fd) ? -EACCES : 0;
	if (result < 0) {
		data_free(data);
		return result;
	}
	/* The offset is shared with all who have the descriptor. */
	result = lseek(fd, 0, SEEK_SET) < 0 ? -errno : variable_begin(size, &room);
	if (result == 0 && room != NULL)
		result = read_all(fd, room + NAME_LEN, size);
	if (result < 0) {
		free(room);
		data_free(data);
		return result;
	}
	if (room != NULL)
		variable_end(data, room, size);
	return 0;
}

void data_free(struct data *data)
{
	fd_close(&data->fd);
	variable_free(data);
}
