/* SPDX-License-Identifier: Apache-2.0
 *
 * probe ACT...: tries each act and prints what the kernel said of it, `ACT 0` or `ACT ERRNO-NAME`. Runs in the guest in
 * the place of a role, inside one of its outer walls and nothing else. Linked statically, so that the wall need not let
 * a library through for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int result(int rc)
{
	return rc < 0 ? errno : 0;
}

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags, 0600);
	int error = result(fd);

	if (fd >= 0)
		close(fd);
	return error;
}

static int read_shadow(void)
{
	return open_file("/etc/shadow", O_RDONLY);
}

static int read_keys(void)
{
	return open_file("/etc/handoffd/keys", O_RDONLY);
}

static int write_config(void)
{
	return open_file("/etc/handoffd/handoffd.conf", O_WRONLY | O_APPEND);
}

static int write_cron(void)
{
	return open_file("/etc/cron.d/handoff-probe", O_WRONLY | O_CREAT);
}

static int make_socket(int family, int type, int protocol)
{
	int fd = socket(family, type, protocol);
	int error = result(fd);

	if (fd >= 0)
		close(fd);
	return error;
}

static int tcp_socket(void)
{
	return make_socket(AF_INET, SOCK_STREAM, 0);
}

static int raw_socket(void)
{
	return make_socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
}

static int tcp_connect(void)
{
	struct sockaddr_in web = {
	    .sin_family = AF_INET, .sin_port = htons(80), .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	int error = fd < 0 ? errno : result(connect(fd, (const struct sockaddr *)&web, sizeof(web)));

	if (fd >= 0)
		close(fd);
	return error;
}

static int run_program(void)
{
	int status = 0;
	pid_t child = fork();

	if (child < 0)
		return errno;
	if (child == 0) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(errno);
	}
	if (waitpid(child, &status, 0) < 0)
		return errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

static int trace_init(void)
{
	return result((int)ptrace(PTRACE_SEIZE, 1, NULL, NULL));
}

static int mount_something(void)
{
	return result(mount("none", "/mnt", "tmpfs", 0, NULL));
}

static int new_namespace(void)
{
	return result(unshare(CLONE_NEWUSER));
}

static int writable_code(void)
{
	void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return map == MAP_FAILED ? errno : 0;
}

static const struct {
	const char *name;
	int (*try)(void);
} acts[] = {
    {"read-shadow", read_shadow}, {"read-keys", read_keys},     {"write-config", write_config},
    {"write-cron", write_cron},   {"tcp-socket", tcp_socket},   {"raw-socket", raw_socket},
    {"tcp-connect", tcp_connect}, {"exec", run_program},        {"ptrace", trace_init},
    {"mount", mount_something},   {"namespace", new_namespace}, {"writable-code", writable_code},
};

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		for (size_t k = 0; k < sizeof(acts) / sizeof(acts[0]); k++) {
			if (strcmp(argv[i], acts[k].name) != 0)
				continue;
			int error = acts[k].try();
			printf("%s %s\n", argv[i], error == 0 ? "0" : strerrorname_np(error));
			fflush(stdout);
		}
	return 0;
}
