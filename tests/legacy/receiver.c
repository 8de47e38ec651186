/* SPDX-License-Identifier: Apache-2.0
 *
 * A receiver of the bare format, as sites that ran the original module have them: one connection a client, on it the
 * data and the client's socket. Each client gets a run of a program, with the client as its standard input and output
 * and the data in HANDOFF_DATA.
 *
 *     receiver SOCKET PROGRAM [ARGUMENT...]
 *
 * The present form of the original wants SOCK_SEQPACKET. Written for the tests from the description of the format only;
 * nothing of lib/ is in it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* What one environment string can hold, and more than enough. */
static char data[128 * 1024 - 64];

static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (sock < 0 || strlen(path) >= sizeof(address.sun_path))
		return -1;
	strcpy(address.sun_path, path);
	unlink(path);
	if (bind(sock, (struct sockaddr *)&address, sizeof(address)) != 0 || chmod(path, 0666) != 0 ||
	    listen(sock, 64) != 0)
		return -1;
	return sock;
}

/* The data into data[], NUL-terminated; returns the client's socket or -1. */
static int receive(int connection)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = data, .iov_len = sizeof(data) - 1};
	struct msghdr message = {
	    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	int client = -1;
	ssize_t more;

	ssize_t len = recvmsg(connection, &message, MSG_CMSG_CLOEXEC);
	if (len <= 0)
		return -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			memcpy(&client, CMSG_DATA(c), sizeof(client));
	while ((more = read(connection, data + len, sizeof(data) - 1 - (size_t)len)) > 0)
		len += more;
	data[len] = '\0';
	return client;
}

static void run(int client, char **program)
{
	if (fork() != 0)
		return;
	/* The socket comes as httpd had it. */
	fcntl(client, F_SETFL, fcntl(client, F_GETFL) & ~O_NONBLOCK);
	setenv("HANDOFF_DATA", data, 1);
	dup2(client, STDIN_FILENO);
	dup2(client, STDOUT_FILENO);
	execvp(program[0], program);
	_exit(127);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	signal(SIGCHLD, SIG_IGN);
	int sock = listen_at(argv[1]);
	if (sock < 0) {
		perror(argv[1]);
		return 1;
	}
	for (;;) {
		int connection = accept4(sock, NULL, NULL, SOCK_CLOEXEC);
		if (connection < 0 && errno == EINTR)
			continue;
		if (connection < 0)
			return 1;
		int client = receive(connection);
		close(connection);
		if (client >= 0) {
			run(client, argv + 2);
			close(client);
		}
	}
}
