/* SPDX-License-Identifier: Apache-2.0
 *
 * Sink: the least that a receiver of raw handoffs can do, to measure what it costs to get one there: takes the client's
 * descriptor, writes one small response, closes.
 *
 *     sink PATH
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char response[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";

static void serve(int connection)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	char data[8192];
	struct iovec iov = {.iov_base = data, .iov_len = sizeof(data)};
	struct msghdr message = {
	    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	const struct cmsghdr *header;
	int client;

	if (recvmsg(connection, &message, MSG_CMSG_CLOEXEC) <= 0)
		return;
	header = CMSG_FIRSTHDR(&message);
	if (header == NULL || header->cmsg_type != SCM_RIGHTS)
		return;
	memcpy(&client, CMSG_DATA(header), sizeof(client));
	send(client, response, sizeof(response) - 1, MSG_NOSIGNAL);
	shutdown(client, SHUT_WR);
	close(client);
}

int main(int argc, char **argv)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (argc != 2 || strlen(argv[1]) >= sizeof(name.sun_path))
		return 2;
	strcpy(name.sun_path, argv[1]);
	if (bind(listener, (struct sockaddr *)&name, sizeof(name)) != 0 || listen(listener, 1024) != 0 ||
	    chmod(argv[1], 0666) != 0) {
		perror(argv[1]);
		return 1;
	}
	for (;;) {
		int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (connection < 0)
			continue;
		serve(connection);
		close(connection);
	}
}
