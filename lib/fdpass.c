/* SPDX-License-Identifier: Apache-2.0
 *
 * Passing descriptors: one sendmsg(), one recvmsg(), and the walk over all that arrived.
 */
#include "fdpass.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Newer than the C library's headers. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04
#endif

/* What the kernel shows for a uid that is not mapped in our user namespace. */
#define OVERFLOW_UID 65534

#define SEALS_WANTED (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

/* CMSG_SPACE() rounds up to 8 bytes, so one descriptor more than was offered may fit without MSG_CTRUNC. */
#define FDPASS_ARRIVE_MAX (FDPASS_MAX + 1)

union control {
	char bytes[CMSG_SPACE(FDPASS_MAX * sizeof(int))];
	struct cmsghdr align;
};

void fd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

void fd_close_all(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fd_close(&fds[i]);
}

/* One sendmsg(). Returns the length sent, or -errno. */
static ssize_t send_once(int sock, const struct iovec *iov, size_t iov_len, const int *fds, size_t n_fds, int flags)
{
	union control control = {0};
	struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = iov_len};
	ssize_t sent;

	if (n_fds > FDPASS_MAX)
		return -EINVAL;
	if (n_fds > 0) {
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
	}
	do
		sent = sendmsg(sock, &message, flags | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}

int fdpass_send(int sock, const struct iovec *iov, size_t iov_len, const int *fds, size_t n_fds, int flags)
{
	size_t total = 0;
	ssize_t sent = send_once(sock, iov, iov_len, fds, n_fds, flags);

	if (sent < 0)
		return (int)sent;
	for (size_t i = 0; i < iov_len; i++)
		total += iov[i].iov_len;
	return (size_t)sent == total ? 0 : -EIO;
}

ssize_t fdpass_send_some(int sock, struct span data, const int *fds, size_t n_fds, int flags)
{
	const struct iovec iov = {.iov_base = (void *)(uintptr_t)data.data, .iov_len = data.len};

	return send_once(sock, &iov, 1, fds, n_fds, flags);
}

/* Whatever a message brought, before it is judged. */
struct arrived {
	int fds[FDPASS_ARRIVE_MAX];
	size_t n;
	bool foreign; /* ancillary data of another type, or more descriptors than fit here */
};

/* Take the descriptors of one control message. */
static void arrived_take(struct arrived *arrived, struct cmsghdr *cmsg)
{
	size_t n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < n; i++) {
		int fd;
		memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
		if (arrived->n < FDPASS_ARRIVE_MAX) {
			arrived->fds[arrived->n++] = fd;
		} else {
			fd_close(&fd);
			arrived->foreign = true;
		}
	}
}

static void arrived_walk(struct arrived *arrived, struct msghdr *message)
{
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(message); cmsg; cmsg = CMSG_NXTHDR(message, cmsg)) {
		bool rights = cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS;
		bool pidfd = cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_PIDFD;

		/* A pidfd is a descriptor too: it is refused, but first it must be closed. */
		if (rights || pidfd)
			arrived_take(arrived, cmsg);
		if (!rights)
			arrived->foreign = true;
	}
}

ssize_t fdpass_receive(int sock, void *buffer, size_t size, int *fds, size_t max_fds, size_t *n_fds, int flags)
{
	union control control = {0};
	struct arrived arrived = {.n = 0};
	struct iovec iov = {.iov_base = buffer, .iov_len = size};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t len;
	int error = 0;

	*n_fds = 0;
	if (max_fds > FDPASS_MAX || size > SSIZE_MAX)
		return -EINVAL;
	for (size_t i = 0; i < max_fds; i++)
		fds[i] = -1;
	message.msg_control = control.bytes;
	message.msg_controllen = max_fds > 0 ? CMSG_SPACE(max_fds * sizeof(int)) : 0;
	do
		len = recvmsg(sock, &message, flags | MSG_CMSG_CLOEXEC);
	while (len < 0 && errno == EINTR);
	if (len < 0)
		return -errno;
	arrived_walk(&arrived, &message);
	if (message.msg_flags & MSG_TRUNC)
		error = -EMSGSIZE;
	else if ((message.msg_flags & MSG_CTRUNC) || arrived.foreign || arrived.n > max_fds)
		error = -EBADMSG;
	else if (len == 0 && arrived.n > 0) /* would be taken for the end of file */
		error = -EBADMSG;
	if (error) {
		fd_close_all(arrived.fds, arrived.n);
		return error;
	}
	for (size_t i = 0; i < arrived.n; i++)
		fds[i] = arrived.fds[i];
	*n_fds = arrived.n;
	return len;
}

int peer_credentials(int sock, struct ucred *credentials)
{
	socklen_t len = sizeof(*credentials);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, credentials, &len) != 0)
		return -errno;
	/* What a socket without a peer, or one that is not a unix socket, shows. */
	if (len != sizeof(*credentials) || credentials->uid == (uid_t)-1)
		return -ENOTCONN;
	return credentials->uid == OVERFLOW_UID ? -EACCES : 0;
}

int memfd_check_seals(int fd, int seals, size_t *size)
{
	struct stat st;
	/* Only memfds have seals: reading one never blocks. */
	int has = fcntl(fd, F_GET_SEALS);

	if (has < 0)
		return -errno;
	if ((has & seals) != seals)
		return -EPERM;
	if (fstat(fd, &st) != 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < 0)
		return -EINVAL;
	*size = (size_t)st.st_size;
	return 0;
}

int memfd_check_sealed(int fd, size_t *size)
{
	return memfd_check_seals(fd, SEALS_WANTED, size);
}

int memfd_open(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	/* Kernels before 6.3 do not know MFD_NOEXEC_SEAL. */
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return fd < 0 ? -errno : fd;
}

int memfd_make_sealed(struct span data)
{
	int fd FD_CLEANUP = memfd_open("handoff-data");
	int made;

	if (fd < 0)
		return fd;
	/* pwrite() leaves the offset, which travels with the descriptor, at the beginning. */
	for (size_t done = 0; done < data.len;) {
		ssize_t n = pwrite(fd, data.data + done, data.len - done, (off_t)done);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			done += (size_t)n;
	}
	if (fcntl(fd, F_ADD_SEALS, SEALS_WANTED) != 0)
		return -errno;
	made = fd;
	fd = -1;
	return made;
}
