/* SPDX-License-Identifier: Apache-2.0
 *
 * Passing descriptors over real sockets: what is allowed arrives, everything else is closed. Every test counts the
 * open descriptors before and after.
 */
#include "lib/fdpass.h"
#include "lib_support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

static int pair[2];
static size_t open_before;

static int make(void **state)
{
	(void)state;
	open_before = count_open_fds();
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
}

static int clean(void **state)
{
	(void)state;
	fd_close_all(pair, 2);
	/* A failed teardown shows as a failed test. */
	return count_open_fds() == open_before ? 0 : -1;
}

/* Send text and n descriptors (the same one n times) without fdpass_send()'s limit. */
static void send_raw(const void *text, size_t len, size_t n)
{
	union {
		char bytes[CMSG_SPACE(16 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {(void *)text, len};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	int fd = open("/dev/null", O_RDWR);

	assert_true(fd >= 0 && n <= 16);
	if (n) {
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(n * sizeof(int));
		struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(n * sizeof(int));
		for (size_t i = 0; i < n; i++)
			memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &fd, sizeof(fd));
	}
	assert_int_equal(sendmsg(pair[0], &message, 0), (ssize_t)len);
	close(fd);
}

/* Receive and check that on an error nothing stays; returns what fdpass_receive() returned. */
static ssize_t receive(char *buffer, size_t size, int *fds, size_t max_fds, size_t *n)
{
	size_t before = count_open_fds();

	for (size_t i = 0; i < FDPASS_MAX; i++)
		fds[i] = 12345;
	*n = 99;
	ssize_t result = fdpass_receive(pair[1], buffer, size, fds, max_fds, n, MSG_DONTWAIT);
	if (result < 0)
		assert_int_equal(*n, 0);
	assert_int_equal(count_open_fds(), before + *n);
	for (size_t i = 0; i < FDPASS_MAX; i++) {
		if (i < *n)
			assert_int_equal(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
		else
			assert_int_equal(fds[i], i < max_fds ? -1 : 12345);
	}
	return result;
}

/* ---------------------------------------------------------------- descriptors */

static void every_number(void **state)
{
	char buffer[16];
	int fds[FDPASS_MAX];
	size_t n;

	(void)state;
	for (size_t room = 0; room <= FDPASS_MAX; room++) {
		for (size_t sent = 0; sent <= 8; sent++) {
			send_raw("hello", 5, sent);
			ssize_t result = receive(buffer, sizeof(buffer), fds, room, &n);
			if (sent <= room) {
				assert_int_equal(result, 5);
				assert_int_equal(n, sent);
				assert_memory_equal(buffer, "hello", 5);
				fd_close_all(fds, n);
			} else {
				assert_int_equal(result, -EBADMSG);
			}
		}
	}
	/* The connection is as usable as before. */
	send_raw("x", 1, 0);
	assert_int_equal(receive(buffer, sizeof(buffer), fds, 2, &n), 1);
	assert_int_equal(receive(buffer, sizeof(buffer), fds, 2, &n), -EAGAIN);
}

static void sent_ones_arrive(void **state)
{
	const struct iovec iov[2] = {{"ab", 2}, {"cde", 3}};
	char buffer[16], path[64], name[64];
	int fds[FDPASS_MAX], sent[2] = {open("/dev/null", O_RDONLY), open("/dev/zero", O_RDONLY)};
	size_t n;

	(void)state;
	assert_int_equal(fdpass_send(pair[0], iov, 2, sent, 2, MSG_DONTWAIT), 0);
	/* They stay the sender's. */
	assert_true(fcntl(sent[0], F_GETFD) >= 0 && fcntl(sent[1], F_GETFD) >= 0);
	fd_close_all(sent, 2);
	assert_int_equal(receive(buffer, sizeof(buffer), fds, 2, &n), 5);
	assert_memory_equal(buffer, "abcde", 5);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[1]);
	ssize_t len = readlink(path, name, sizeof(name));
	assert_int_equal(len, 9);
	assert_memory_equal(name, "/dev/zero", 9);
	fd_close_all(fds, n);
	assert_int_equal(fds[0], -1);
}

static void too_long(void **state)
{
	char buffer[4];
	int fds[FDPASS_MAX];
	size_t n;

	(void)state;
	for (size_t sent = 0; sent <= 3; sent++) {
		send_raw("hello", 5, sent);
		assert_int_equal(receive(buffer, sizeof(buffer), fds, 2, &n), -EMSGSIZE);
	}
	send_raw("hell", 4, 1);
	assert_int_equal(receive(buffer, sizeof(buffer), fds, 2, &n), 4);
	fd_close_all(fds, n);
}

static void end_of_file(void **state)
{
	char buffer[4];
	int fds[FDPASS_MAX];
	size_t n;

	(void)state;
	/* An empty message with a descriptor must not be taken for the end of file, nor its descriptor kept. */
	send_raw("", 0, 1);
	assert_int_equal(receive(buffer, sizeof(buffer), fds, 2, &n), -EBADMSG);
	fd_close(&pair[0]);
	assert_int_equal(receive(buffer, sizeof(buffer), fds, 2, &n), 0);
	assert_int_equal(n, 0);
}

static void credentials_are_foreign(void **state)
{
	const int on = 1;
	char buffer[16];
	int fds[FDPASS_MAX];
	size_t n;

	(void)state;
	assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
	for (size_t room = 0; room <= FDPASS_MAX; room++) {
		for (size_t sent = 0; sent <= 5; sent++) {
			send_raw("hello", 5, sent);
			assert_int_equal(receive(buffer, sizeof(buffer), fds, room, &n), -EBADMSG);
		}
	}
}

static void pidfds_are_foreign(void **state)
{
	const int on = 1;
	char buffer[16];
	int fds[FDPASS_MAX];
	size_t n;

	(void)state;
	if (setsockopt(pair[1], SOL_SOCKET, SO_PASSPIDFD, &on, sizeof(on)) != 0) {
		print_message("skipped: this kernel has no SO_PASSPIDFD\n");
		skip();
	}
	for (size_t room = 0; room <= FDPASS_MAX; room++) {
		for (size_t sent = 0; sent <= 5; sent++) {
			send_raw("hello", 5, sent);
			assert_int_equal(receive(buffer, sizeof(buffer), fds, room, &n), -EBADMSG);
		}
	}
}

static void wrong_arguments(void **state)
{
	struct iovec iov = {"x", 1};
	int fds[FDPASS_MAX + 1] = {0};
	char buffer[4];
	size_t n;

	(void)state;
	assert_int_equal(fdpass_send(pair[0], &iov, 1, fds, FDPASS_MAX + 1, 0), -EINVAL);
	assert_int_equal(fdpass_receive(pair[1], buffer, 4, fds, FDPASS_MAX + 1, &n, MSG_DONTWAIT), -EINVAL);
	assert_int_equal(fdpass_receive(-1, buffer, 4, fds, 1, &n, 0), -EBADF);
	assert_int_equal(fdpass_send(-1, &iov, 1, NULL, 0, 0), -EBADF);
	fds[0] = -1;
	assert_int_equal(fdpass_send(pair[0], &iov, 1, fds, 1, 0), -EBADF);
}

/* EPIPE as a result, not as a signal that ends the process. */
static void peer_gone(void **state)
{
	struct iovec iov = {"x", 1};

	(void)state;
	fd_close(&pair[1]);
	assert_int_equal(fdpass_send(pair[0], &iov, 1, NULL, 0, 0), -EPIPE);
	fd_close(&pair[0]);
	/* Only stream sockets raise SIGPIPE. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	fd_close(&pair[1]);
	assert_int_equal(fdpass_send(pair[0], &iov, 1, NULL, 0, 0), -EPIPE);
}

static void full_queue(void **state)
{
	char big[1024] = {0};
	struct iovec iov = {big, sizeof(big)};
	int result = 0;

	(void)state;
	for (int i = 0; i < 10000 && result == 0; i++)
		result = fdpass_send(pair[0], &iov, 1, NULL, 0, MSG_DONTWAIT);
	assert_int_equal(result, -EAGAIN);
}

static void closing(void **state)
{
	int fd = dup(pair[0]), copy = fd;

	(void)state;
	errno = ENOTTY;
	fd_close(&fd);
	assert_int_equal(errno, ENOTTY);
	assert_int_equal(fd, -1);
	assert_int_equal(fcntl(copy, F_GETFD), -1);
	errno = ENOTTY;
	fd_close(&fd);
	assert_int_equal(errno, ENOTTY);
	{
		int local FD_CLEANUP = dup(pair[0]);
		copy = local;
		assert_true(fcntl(copy, F_GETFD) >= 0);
	}
	assert_int_equal(fcntl(copy, F_GETFD), -1);
}

/* ---------------------------------------------------------------- credentials */

static void peer_is_us(void **state)
{
	struct ucred credentials;

	(void)state;
	assert_int_equal(peer_credentials(pair[0], &credentials), 0);
	assert_int_equal(credentials.uid, geteuid());
	assert_int_equal(credentials.gid, getegid());
	assert_int_equal(peer_credentials(-1, &credentials), -EBADF);
}

static void peer_of_other_sockets(void **state)
{
	struct ucred credentials;

	(void)state;
	int lonely = socket(AF_UNIX, SOCK_SEQPACKET, 0), tcp = socket(AF_INET, SOCK_STREAM, 0);
	int file = open("/dev/null", O_RDONLY);
	assert_int_equal(peer_credentials(lonely, &credentials), -ENOTCONN);
	assert_true(peer_credentials(tcp, &credentials) < 0);
	assert_int_equal(peer_credentials(file, &credentials), -ENOTSOCK);
	close(lonely);
	close(tcp);
	close(file);
}

/* A peer with the overflow uid: somebody, but nobody knows who. */
static void peer_with_overflow_uid(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct ucred credentials;
	socklen_t len = sizeof(sa_family_t);
	int status;

	(void)state;
	if (geteuid() != 0) {
		print_message("skipped: changing the uid needs root\n");
		skip();
	}
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0); /* a free abstract name */
	len = sizeof(address);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	assert_int_equal(listen(listener, 1), 0);
	pid_t child = fork();
	if (child == 0) {
		int sock = socket(AF_UNIX, SOCK_SEQPACKET, 0);
		_exit(setuid(65534) != 0 || connect(sock, (struct sockaddr *)&address, len) != 0);
	}
	int accepted = accept(listener, NULL, NULL);
	assert_int_equal(peer_credentials(accepted, &credentials), -EACCES);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	close(accepted);
	close(listener);
}

/* ---------------------------------------------------------------- memfds */

static void memfd_sealed(void **state)
{
	char *data = malloc(300000), *back = malloc(300000);
	size_t sizes[] = {0, 1, 65537, 300000};

	(void)state;
	memset(data, 'd', 300000);
	for (size_t i = 0; i < 4; i++) {
		int fd = memfd_make_sealed(span_of(data, sizes[i]));
		size_t size = 99;
		assert_true(fd >= 0);
		assert_int_equal(memfd_check_sealed(fd, &size), 0);
		assert_int_equal(size, sizes[i]);
		assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
		assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
		assert_int_equal(read(fd, back, 300000), (ssize_t)sizes[i]);
		assert_memory_equal(data, back, sizes[i]);
		assert_int_equal(pwrite(fd, "x", 1, 0), -1);
		assert_int_equal(ftruncate(fd, 1000000), -1);
		assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1);
		close(fd);
	}
	free(data);
	free(back);
}

static void memfd_each_seal_counts(void **state)
{
	const int seals[] = {F_SEAL_WRITE, F_SEAL_GROW, F_SEAL_SHRINK, F_SEAL_SEAL};
	size_t size;

	(void)state;
	for (unsigned set = 0; set < 16; set++) {
		int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		for (unsigned i = 0; i < 4; i++)
			if (set & (1U << i))
				assert_int_equal(fcntl(fd, F_ADD_SEALS, seals[i]), 0);
		assert_int_equal(memfd_check_sealed(fd, &size), set == 15 ? 0 : -EPERM);
		close(fd);
	}
	/* No writing through new mappings is not enough: an old one may still write. */
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL), 0);
	assert_int_equal(memfd_check_sealed(fd, &size), -EPERM);
	close(fd);
}

static void memfd_other_descriptors(void **state)
{
	struct scratch scratch;
	size_t size;

	(void)state;
	scratch_make(&scratch);
	scratch_write(&scratch, "x", 1, 0600);
	int file = open(scratch.file, O_RDONLY), null = open("/dev/null", O_RDONLY);
	assert_true(memfd_check_sealed(file, &size) < 0);
	assert_true(memfd_check_sealed(null, &size) < 0);
	assert_true(memfd_check_sealed(pair[0], &size) < 0);
	assert_int_equal(memfd_check_sealed(-1, &size), -EBADF);
	int unsealable = memfd_create("test", MFD_CLOEXEC);
	assert_int_equal(memfd_check_sealed(unsealable, &size), -EPERM);
	close(file);
	close(null);
	close(unsealable);
	scratch_remove(&scratch);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make, clean)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(every_number),
	    TEST(sent_ones_arrive),
	    TEST(too_long),
	    TEST(end_of_file),
	    TEST(credentials_are_foreign),
	    TEST(pidfds_are_foreign),
	    TEST(wrong_arguments),
	    TEST(peer_gone),
	    TEST(full_queue),
	    TEST(closing),
	    TEST(peer_is_us),
	    TEST(peer_of_other_sockets),
	    TEST(peer_with_overflow_uid),
	    TEST(memfd_sealed),
	    TEST(memfd_each_seal_counts),
	    TEST(memfd_other_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
