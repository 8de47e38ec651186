# SPDX-License-Identifier: Apache-2.0
"""handoff-policy: what it shows of the policies, and that its audit finds what differs from them in running processes."""
import json
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess

import pytest

import env as harness

ROOT = pathlib.Path(__file__).parents[2]
UID_PLAIN = 64250
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to look into the roles")


@pytest.fixture(name="tool", scope="module")
def fixture_tool(env):
    """tool(...) runs handoff-policy and returns its result."""
    def run(*arguments, prefix=(), **options):
        return subprocess.run([*prefix, env.bin / "handoff-policy", *map(str, arguments)], capture_output=True, text=True,
                              timeout=60, env=env.sanitizer_environment(), **options)
    return run


# ---------------------------------------------------------------- show, explain, lint, check


def test_show(tool):
    result = tool("-b", "show", "gate")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "gate.policy:6\trole gate"
    shown = {line.partition("\t")[0] for line in lines}
    for name in ("gate", "libc"):
        text = (ROOT / f"policy/{name}.policy").read_text().splitlines()
        statements = {f"{name}.policy:{number}" for number, line in enumerate(text, 1) if line.strip() and line[0] != "#"}
        assert statements <= shown
    assert re.search(r"^landlock fs\ton$", result.stdout, re.M)


def test_show_nobody(tool):
    result = tool("-b", "show", "nobody")
    assert (result.returncode, result.stderr) == (2, "handoff-policy: there is no policy for nobody\n")


@pytest.mark.parametrize("arguments, decides, program", [
    (["gate", "socket", "AF_UNIX", "SOCK_SEQPACKET|SOCK_CLOEXEC|SOCK_NONBLOCK", "0"], "allow socket if domain == AF_UNIX", "allowed"),
    (["gate", "socket", "domain=AF_INET", "type=SOCK_STREAM"], None, "the process is killed"),
    (["streamer", "connect"], "errno EINPROGRESS connect", "fails with EINPROGRESS"),
    (["dialer", "sendto", "flags=MSG_FASTOPEN"], "errno EPERM sendto", "fails with EPERM"),
    (["dialer", "execve"], None, "the process is killed"),
    (["supervisor", "execve"], None, "allowed"),
    (["supervisor", "ptrace"], "kill ptrace", "the process is killed"),
])
def test_explain(tool, arguments, decides, program):
    result = tool("-b", "explain", *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == f"the program: {program}"
    found = re.findall(r"^decides  \w+\.policy:\d+\t(.*)", result.stdout, re.M)
    assert len(found) == (decides is not None)
    assert decides is None or found[0].startswith(decides)


def test_explain_needs_more(tool):
    result = tool("-b", "explain", "gate", "socket", "domain=AF_UNIX")
    assert result.stdout.splitlines()[-1] == "more arguments would decide"


@pytest.mark.parametrize("arguments, error", [
    (["gate", "sokcet"], "there is no system call sokcet"),
    (["gate", "socket", "family=AF_UNIX"], "socket has no argument family; known are: domain type protocol"),
    (["gate", "socket", "AF_UNIXX"], "AF_UNIXX: unknown constant AF_UNIXX"),
    (["gate"], "explain wants a role and a system call"),
])
def test_explain_errors(tool, arguments, error):
    result = tool("-b", "explain", *arguments)
    assert (result.returncode, result.stderr) == (2, f"handoff-policy: {error}\n")


def test_lint(tool, env):
    result = tool("-b", "lint")
    assert (result.returncode, result.stdout) == (0, "0 findings\n")
    file = env.folder("lint") / "bad.policy"
    file.write_text("list bad\nallow ioctl\n")
    result = tool("lint", file)
    assert result.returncode == 1
    assert result.stdout.splitlines() == [f"{file}: {file}:2: ioctl without a reason",
                                          f"{file}: {file}:2: ioctl without a condition on request", "2 findings"]


def test_unused(tool):
    """Everything is unused that is not called with the right arguments; a denial is no grant."""
    calls = "read 0 0 0\nsendmsg 0x3 0x7f00 0x4040\nsocket 0x1 0x80805 0\nmmap 0 4096 0x7 0x22 -1 0\n"
    result = tool("-b", "unused", "gate", input=calls)
    assert result.returncode == 1
    unused = [line.partition("\t")[2].split() for line in result.stdout.splitlines()]
    names = {words[1] for words in unused if words[0] == "allow"}
    assert not names & {"read", "sendmsg", "socket"} and {"write", "mmap", "socketpair", "getsockopt"} <= names
    assert all(words[0] == "allow" for words in unused)
    assert tool("-b", "unused", "gate", input="read x\n").returncode == 2


@pytest.mark.parametrize("unit, before, after, finding", [
    ("handoffd-gate.service", "CapabilityBoundingSet=\n", "CapabilityBoundingSet=CAP_CHOWN\n", "CapabilityBoundingSet= is missing"),
    ("handoffd-gate.service", "=AF_UNIX\n", "=AF_UNIX AF_INET\n", "grants an address family that the policy does not: AF_INET"),
    ("handoffd-dialer.service", "AF_INET6\n", "\n", "takes away an address family that the policy grants: AF_INET6"),
    ("handoffd-streamer@.service", "PrivateNetwork=yes\n", "", "PrivateNetwork=yes is missing"),
    ("handoffd-gate.service", "LimitCORE=0\n", "LimitCORE=0\nReadWritePaths=/var\n", "grants paths that the policy does not"),
    ("handoffd-dialer.service", "LimitCORE=0\n", "LimitCORE=0\nInaccessiblePaths=/etc/hosts\n", "hides a path that the policy"),
    ("handoffd-gate.service", "SystemCallFilter=~execveat", "SystemCallFilter=~accept4 execveat",
     "takes away a call that the policy grants: accept4"),
    ("handoffd-launcher@.service", " umount2", "", "takes away a call that the policy grants: umount2"),
    ("handoffd-launcher@.service", "SystemCallFilter=~kcmp", "SystemCallFilter=~execve kcmp",
     "takes away a call that the policy grants: execve"),
    ("handoffd-gate.service", "RestrictNamespaces=yes\n", "", "RestrictNamespaces=yes is missing: fork no"),
    ("handoffd-gate.service", "LimitCORE=0\n", "LimitCORE=0\nDelegate=yes\n", "grants cgroups"),
])
def test_check(tool, env, unit, before, after, finding):
    folder = env.folder("units")
    for file in (ROOT / "systemd").glob("*.service"):
        shutil.copy(file, folder)
    result = tool("-b", "check", folder)
    assert (result.returncode, result.stdout) == (0, "0 findings\n")
    text = (folder / unit).read_text()
    assert before in text
    (folder / unit).write_text(text.replace(before, after))
    result = tool("-b", "check", folder)
    assert result.returncode == 1
    assert f"{unit}: " in result.stdout and finding in result.stdout
    assert result.stdout.splitlines()[-1] == "1 findings"


@pytest.mark.parametrize("profile, before, after, finding", [
    ("handoffd-gate", "  network inet6 stream,\n", "  network inet6 stream,\n  capability chown,\n",
     "grants beyond the policy, unexplained: capability chown"),
    ("handoffd-dialer", "  network inet dgram,\n", "", "takes away a kind of socket that the policy grants: inet dgram"),
    ("handoffd-dialer", "  network inet dgram,\n", "  network inet dgram,\n  network netlink raw,\n",
     "grants beyond the policy, unexplained: netlink raw"),
    ("handoffd-dialer", "  /etc/hosts r,\n", "", "takes away a path that the policy grants: /etc/hosts"),
    ("handoffd-streamer", "openssl.cnf r,", "openssl.cnf rw,", "grants a path beyond the policy, unexplained: /etc/ssl/openssl.cnf"),
    ("handoffd-streamer", "  /etc/ssl/openssl.cnf r,\n", "", "does not grant a path that another wall grants: /etc/ssl/openssl.cnf"),
    ("handoffd-gate", "handoffd-gate mr,", "handoffd-gate mrix,", "unexplained: /usr/libexec/handoffd/handoffd-gate"),
    ("handoffd-gate", "  / r,\n", "  / r,\n  ptrace,\n", "grants what no policy grants: ptrace"),
    ("abstractions/handoffd-role", "  capability setgid,\n", "", "does not grant what is explained: capability setgid"),
])
def test_check_apparmor(tool, env, profile, before, after, finding):
    folder = env.folder("profiles")
    shutil.copytree(ROOT / "apparmor", folder, dirs_exist_ok=True)
    result = tool("-b", "check", folder)
    assert (result.returncode, result.stdout) == (0, "0 findings\n")
    text = (folder / profile).read_text()
    assert before in text
    (folder / profile).write_text(text.replace(before, after))
    result = tool("-b", "check", folder)
    assert result.returncode == 1
    assert all(line.startswith("handoffd-") for line in result.stdout.splitlines()[:-1])
    assert finding in result.stdout


@pytest.fixture(name="module", scope="module")
def fixture_module(env):
    """The SELinux module, and the same as text."""
    subprocess.run(["make", "-s", f"BUILD={env.build}", "selinux-module"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    file = env.build / "selinux/handoffd.pp"
    return file, subprocess.run(["/usr/libexec/selinux/hll/pp", file], check=True, capture_output=True, text=True).stdout


def test_check_selinux_module(tool, module):
    result = tool("-b", "check", module[0])
    assert (result.returncode, result.stdout) == (0, "0 findings\n")


GATE_TCP = "(allow handoffd_gate_t self (tcp_socket (create connect)))"


@pytest.mark.parametrize("before, after, finding", [
    ("", "(allow handoffd_role self (capability (chown)))", "handoffd_dialer_t: grants capabilities beyond the policy, unexplained: chown"),
    ("", GATE_TCP, "handoffd_gate_t: makes sockets beyond the policy, unexplained: tcp_socket"),
    ("", f"(booleanif (handoffd_connect_any_port)\n    (true\n        {GATE_TCP}))", "handoffd_gate_t: makes sockets beyond the policy"),
    ("", "(allow handoffd_role self (netlink_audit_socket (create)))", "handoffd_gate_t: makes sockets beyond the policy"),
    ("", "(allow daemon shadow_t (file (read)))", "handoffd_streamer_t: grants files beyond the policy, unexplained: shadow_t"),
    ("", "(allow handoffd_streamer_t cert_t (dir (add_name)))", "handoffd_streamer_t: grants files beyond the policy, unexplained: cert_t"),
    ("", "(allow handoffd_gate_t bin_t (file (execute_no_trans)))", "handoffd_gate_t: grants files beyond the policy, unexplained: bin_t"),
    ("(allow handoffd_dialer_t self (udp_socket ", "(dontaudit handoffd_dialer_t self (udp_socket ",
     "handoffd_dialer_t: takes away a kind of socket that the policy grants: inet dgram"),
    ("(allow handoffd_gate_t ramfs_t ", "(dontaudit handoffd_gate_t ramfs_t ",
     "handoffd_gate_t: does not grant files that another wall grants: ramfs_t"),
    ("", "(allow handoffd_gate_t self (tcp_socket (not (connect))))", "handoffd_gate_t: a rule that this check cannot read"),
])
def test_check_selinux(tool, env, module, before, after, finding):
    file = env.folder("module") / "handoffd.cil"
    assert before in module[1]
    file.write_text(module[1].replace(before, after) if before else module[1] + after + "\n")
    result = tool("-b", "check", file)
    assert result.returncode == 1
    assert finding in result.stdout


@pytest.mark.parametrize("place, complaint", [
    ("/nonexistent.pp", "/nonexistent.pp: cannot be read by /usr/libexec/selinux/hll/pp\n"),
    ("/nonexistent.cil", "/nonexistent.cil: cannot be read\n"),
    ("/usr/share", "/usr/share: neither units nor profiles of handoffd, nor a module\n"),
])
def test_check_nothing(tool, place, complaint):
    result = tool("-b", "check", place)
    assert result.returncode == 2
    assert result.stderr.endswith(f"handoff-policy: {complaint}")


# ---------------------------------------------------------------- audit


def audit(tool, daemon, *arguments, **options):
    return tool("-c", daemon.conf_file, "audit", *arguments, **options)


def faults(result):
    """(process, check, detail) of each fault in the table."""
    return re.findall(r"^(\S+) +(\S+) +FAULT +(.*)$", result.stdout, re.M)


@needs_root
@pytest.mark.usefixtures("needs_seccomp")
class TestAudit:
    def test_running(self, tool, handoffd):
        result = audit(tool, handoffd)
        assert result.returncode == 0, result.stdout + result.stderr
        assert re.search(r"\n0 faults, 0 not seen, \d+ as the policies say\n$", result.stdout)
        for role, (pid, *_) in handoffd.roles().items():
            name = f"{role}-demo" if role == "streamer" else role
            for check in ("uid", "gid", "capabilities", "groups", "no-new-privs", "dumpable", "rlimits", "maps",
                          "descriptors", "filters", "landlock"):
                assert re.search(rf"^{name}\[{pid}\] +{check} +ok ", result.stdout, re.M), (role, check, result.stdout)

    def test_it_disturbs_nobody(self, tool, stack):
        """A stream goes on while the processes are looked at, again and again."""
        before = stack.daemon.roles()
        words = " ".join(f"word{number}" for number in range(400))
        client = subprocess.Popen(["curl", "-sN", "--data-binary", words, f"{stack.url}/chat.php"], stdout=subprocess.PIPE,
                                  text=True)
        try:
            while client.poll() is None:
                assert audit(tool, stack.daemon).returncode in (0, 2)  # 2: it was never idle
                if select.select([client.stdout], [], [], 0)[0] and not client.stdout.readline():
                    break
            rest = client.stdout.read()
        finally:
            client.kill()
            client.wait()
            client.stdout.close()
        assert rest.endswith("data: [DONE]\n\n")
        assert stack.daemon.roles() == before
        assert audit(tool, stack.daemon).returncode == 0

    def test_json(self, tool, handoffd):
        result = audit(tool, handoffd, "--json")
        assert result.returncode == 0
        root = json.loads(result.stdout)
        assert root["equal"] is True and root["faults"] == 0 and root["not_seen"] == 0
        assert {process["role"] for process in root["processes"]} == {"supervisor", "gate", "dialer", "streamer"}
        assert all({"check", "verdict", "detail"} == finding.keys()
                   for process in root["processes"] for finding in process["findings"])

    def test_launchers(self, tool, handoffd_factory):
        """Each is known by its section; one that is not there is missed."""
        names = ["figlet", "second-one"]
        daemon = handoffd_factory(handlers={name: {"command": ["/bin/cat"]} for name in names})
        harness.wait_for(lambda: len(daemon.log.find(r"event=peer-connected role=launcher")) == 2)
        result = audit(tool, daemon, "--json")
        assert result.returncode == 0, result.stdout
        root = json.loads(result.stdout)
        assert [process["handler"] for process in root["processes"] if process["role"] == "launcher"] == names
        pid = daemon.pid("launcher", "second-one")
        os.kill(daemon.process.pid, signal.SIGSTOP)  # it starts nobody anew meanwhile
        try:
            os.kill(pid, signal.SIGKILL)
            result = audit(tool, daemon)
        finally:
            os.kill(daemon.process.pid, signal.SIGCONT)
        assert result.returncode == 1 and "0 of 1 launcher second-one" in result.stdout, result.stdout
        daemon.expect(r"event=crashed role=launcher", r"event=peer-lost role=launcher")

    def test_unprivileged(self, tool, handoffd):
        """It says what it could not see, and does not call that a fault."""
        plain = ("setpriv", f"--reuid={UID_PLAIN}", f"--regid={UID_PLAIN}", "--clear-groups")
        result = audit(tool, handoffd, prefix=plain)
        assert result.returncode == 2, result.stdout + result.stderr
        assert faults(result) == []
        for check in ("maps", "descriptors", "filters", "landlock", "namespaces"):
            assert re.search(rf"^gate\S+ +{check} +not seen ", result.stdout, re.M), check
        for check in ("uid", "gid", "capabilities", "groups", "no-new-privs", "dumpable", "rlimits"):
            assert re.search(rf"^gate\S+ +{check} +ok ", result.stdout, re.M), check

    def test_replaced_policy(self, tool, env, handoffd_factory):
        folder = env.folder("policy.d")
        (folder / "gate.policy").write_text((ROOT / "policy/gate.policy").read_text() + "rlimit data 0x40000000\n")
        daemon = handoffd_factory(options={"policy-dir": str(folder)})
        result = audit(tool, daemon)
        assert result.returncode == 0, result.stdout
        assert f"{folder}/gate.policy replaces the built-in one" in result.stdout

    @pytest.mark.parametrize("name", ["access.log", "%b-%w.log"])
    def test_access_log(self, tool, env, handoffd_factory, name):
        """Its own access log is a file that a streamer holds."""
        folder = env.folder("log")
        folder.chmod(0o777)
        daemon = handoffd_factory(options={"access-log": folder / name})
        result = audit(tool, daemon)
        assert result.returncode == 0, result.stdout

    def test_another_policy_than_at_start(self, tool, env, handoffd_factory):
        folder = env.folder("policy.d")
        daemon = handoffd_factory(options={"policy-dir": str(folder)})
        text = (ROOT / "policy/gate.policy").read_text()
        (folder / "gate.policy").write_text(text.replace("allow getpeername\n", ""))
        result = audit(tool, daemon)
        assert result.returncode == 1
        assert [(name, check) for name, check, _ in faults(result)] == [(f"gate[{daemon.pid('gate')}]", "filters")]

    def test_log_mode_is_a_fault(self, tool, handoffd_factory):
        result = audit(tool, handoffd_factory(options={"seccomp": "log"}))
        assert result.returncode == 1
        assert {(check, detail) for _, check, detail in faults(result)} == \
            {("seccomp-mode", "the configuration has seccomp = log")}

    def test_missing_process(self, tool, handoffd_factory):
        daemon = handoffd_factory()
        daemon.conf_file.write_text(daemon.conf_file.read_text().replace("delay = 1", "delay = 1\n    workers = 2"))
        result = audit(tool, daemon)
        assert result.returncode == 1
        assert faults(result) == [("-", "running", "1 of 2 streamer demo")]

    def test_limit_changed_from_outside(self, tool, handoffd_factory):
        daemon = handoffd_factory()
        pid = daemon.pid("gate")
        subprocess.run(["setpriv", f"--reuid={harness.UID_GATE}", f"--regid={harness.UID_GATE}", "--clear-groups",
                        "prlimit", f"--pid={pid}", "--nofile=1000:"], check=True)
        result = audit(tool, daemon)
        assert result.returncode == 1
        (name, check, detail), = faults(result)
        assert (name, check) == (f"gate[{pid}]", "rlimits") and detail.startswith("Max open files: 1000, ")

    @pytest.fixture(name="weakened", scope="class")
    def fixture_weakened(self, env):
        """weakened(daemon, fault): a second gate with that fault; its pid."""
        if harness.SANITIZE:
            pytest.skip("a sanitizer build has no seccomp filter")
        program = env.build / "tests/weakened"
        subprocess.run(["make", "-s", f"BUILD={env.build}", str(program)], cwd=ROOT, check=True)
        started = []

        def start(daemon, fault):
            process = subprocess.Popen(["handoffd-gate", "-c", str(daemon.conf_file), fault], executable=program,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            started.append(process)
            assert process.stderr.readline() == b"ready\n"
            return process.pid

        def stop():
            while started:
                process = started.pop()
                process.kill()
                process.wait()
                process.stderr.close()
        start.stop = stop
        yield start
        stop()

    def test_another_gate_without_a_fault(self, tool, handoffd, weakened):
        """The counterpart: the same program with everything in force is no fault."""
        weakened(handoffd, "none")
        try:
            result = audit(tool, handoffd)
            assert result.returncode == 0, result.stdout
            assert len(re.findall(r"^gate\[\d+\] +filters +ok ", result.stdout, re.M)) == 2
        finally:
            weakened.stop()

    def test_one_that_never_stops(self, tool, handoffd, weakened):
        """Anybody can start a program of that name; it does not keep the audit from its end, nor from the others."""
        pid = weakened(handoffd, "never-stops")
        try:
            result = audit(tool, handoffd)
            assert result.returncode == 1, result.stdout
            assert re.search(rf"^gate\[{pid}\] +filters +not seen +Connection timed out$", result.stdout, re.M)
            assert re.search(rf"^gate\[{handoffd.pid('gate')}\] +filters +ok ", result.stdout, re.M)
        finally:
            weakened.stop()

    @pytest.mark.parametrize("fault, check, detail", [
        ("capability", "capabilities", r"CapPrm 0000000000002000, CapEff 0000000000002000"),
        ("no-filter", "filters", r"the role's filter is not there"),
        ("other-filter", "filters", r"another filter than the policy's: \d+ instructions"),
        ("additional-filter", "filters", r"1 besides the role's, the last of 1 instructions"),
        ("descriptor", "descriptors", r"\d+: a file \(/etc/hostname\)"),
        ("map", "maps", r"1 writable and executable"),
        ("wrong-uid", "uid", rf"({harness.UID_GATE + 1}\s+){{3}}{harness.UID_GATE + 1}, not {harness.UID_GATE}"),
        ("extra-group", "groups", r"27 ?"),
        ("dumpable", "dumpable", r"yes: its files belong to its user"),
        ("rlimit", "rlimits", r"Max open files: \d+, \d+"),
        ("no-landlock", "landlock", r"fs is not denied: it works"),
    ])
    def test_planted(self, tool, handoffd, weakened, fault, check, detail):
        pid = weakened(handoffd, fault)
        try:
            result = audit(tool, handoffd)
            assert result.returncode == 1, result.stdout
            found = faults(result)
            assert {(name, kind) for name, kind, _ in found} == {(f"gate[{pid}]", check)}, result.stdout
            assert re.fullmatch(detail, found[0][2].rstrip()), found
        finally:
            weakened.stop()
