# SPDX-License-Identifier: Apache-2.0
"""At every moment at most one process may write to the client (docs/protocol.md, "Ownership"), also while gate and
streamer are stopped or killed. Every client checks every byte it gets: load.py says what it may be.

What is certain and what is chance:
  - test_at_each_call stops or kills a role at each system call that a handoff makes there, one client at a time: each
    step is met for certain.
  - test_under_load does the same while other clients ask: it is certain that the role stops or dies at that call,
    chance which of the clients meets it, and where the others are.
  - test_at_random: roles and moments are chance, the seed is printed.
HANDOFF_LONG=1 runs all of it for minutes, HANDOFF_SEED=n repeats a choice.
"""
import contextlib
import os
import random
import resource
import signal
import threading
import time

import pytest

import strace
from env import Client, HttpError, alive, children, get, open_fds, parse_response, wait_for
from load import Load, Reference
from receiver import Site

LONG = os.environ.get("HANDOFF_LONG") == "1"
ACCEPT = 0.25    # SocketHandoffAcceptTimeoutMs
DEADLINE = 6     # connect, send and accept time together are 0.55 s; the rest is for PHP and a busy machine
CONF = "SocketHandoffConnectTimeoutMs 100\nSocketHandoffSendTimeoutMs 200\nSocketHandoffAcceptTimeoutMs 250\n"
# The same for a part of the site: elsewhere nobody is refused because the machine is busy.
HURRIED = f"<Location /hurried>\n{CONF}</Location>\nAliasMatch ^/hurried/app.php @docroot@/app.php\n"
HARM = "reason=(no-streamer|daemon-unreachable|daemon-timeout|stopping|client-gone)"
DEATH = r"event=crashed role=(gate|streamer) .*signal=9"


@pytest.fixture
def make_site(handoffd_factory, apache_factory, fpm):
    """make_site(conf): Apache, php-fpm and handoffd; .reference is what a whole stream looks like."""
    def make(conf):
        daemon = handoffd_factory({"demo": {"type": "demo", "delay": 1}})
        apache = apache_factory(php="fpm", fpm=fpm, keys=daemon.keys, conf=conf)
        apache.chat_page(daemon)
        apache.daemon = daemon
        apache.expect(HARM)
        daemon.expect(DEATH)
        apache.reference = Reference(apache.port)
        return apache
    return make


@pytest.fixture
def site(make_site):
    """One whose Apache waits for the daemon for a moment only."""
    made = make_site(CONF)
    yield made
    ask_until_whole(made)


@pytest.fixture
def patient(make_site):
    """One whose Apache waits long enough for a busy machine: where nobody is stopped nobody is refused for that."""
    made = make_site("")
    yield made
    ask_until_whole(made)


@pytest.fixture
def disturbed(request, action):
    """Whoever waits for a process that is stopped must give up; one that is killed is not waited for."""
    return request.getfixturevalue("patient" if action == "KILL" else "site")


def ask(site, prompt: str = "p" * len(Reference.PROMPT)) -> str:
    return site.reference.judge(site.reference.ask(prompt), prompt)


def ask_until_whole(site, within: float = 8) -> None:
    wait_for(lambda: ask(site) == "whole", within, "a whole stream")


def wake(pid: int) -> None:
    if alive(pid):
        os.kill(pid, signal.SIGCONT)


def started_anew(daemon, role: str, old: int) -> bool:
    """Whether another process than the old one has the role and is ready."""
    return any(pid != old and daemon.log.find(rf"handoffd-{role}\[{pid}\]: .*event=ready")
               for pid in daemon.roles().get(role, []))


class Deaths:
    """The supervisor lets a role that dies often wait longer each time; a new supervisor begins anew."""
    PATIENT = 2

    def __init__(self, daemon):
        self.daemon, self.count = daemon, 0

    def wait(self, role: str, old: int) -> None:
        self.count += 1
        if self.count % self.PATIENT == 0:
            self.daemon.process.stop()
            self.daemon.start()
        wait_for(lambda: started_anew(self.daemon, role, old), 10, f"a new {role}")


# ---------------------------------------------------------------- each step of a handoff

def steps(site, role: str, most: int) -> list:
    """(call, number) for each system call that a handoff makes in this role, in order; of one name at most so many: a
    stream's events are all alike."""
    calls = strace.record(site.daemon.pid(role), lambda: ask(site))
    counts, found = {}, []
    for call in calls:
        counts[call] = counts.get(call, 0) + 1
        if counts[call] <= most and call not in ("restart_syscall", "rt_sigreturn"):
            found.append((call, counts[call]))
    assert ("recvmsg", 1) in found and ("sendmsg", 1) in found, calls
    return found


def allowed(role: str, action: str, step: tuple, order: list) -> set:
    """What the client may get. A gate never owns a client, so its death is made good or refused; a streamer owns it
    from its first sendmsg, which is `accepted`. A kill comes before the call, a stop after it; a stopped role goes on
    in the end, so nothing is cut."""
    before = order.index(step) <= order.index(("sendmsg", 1))
    if action == "STOP" or role == "gate" or before:
        return {"whole", "refused"}
    return {"whole", "cut", "empty"}


@pytest.mark.parametrize("action", ["KILL", "STOP"])
@pytest.mark.parametrize("role", ["gate", "streamer"])
def test_at_each_call(disturbed, role, action):
    site = disturbed
    daemon, deaths, seen = site.daemon, Deaths(site.daemon), {}
    ask_until_whole(site)  # Apache's connection is open and everything loaded
    order = steps(site, role, 8 if role == "gate" else 4)
    chosen = order if LONG or action == "KILL" else order[::3]
    for step in chosen:
        ask_until_whole(site)
        pid = daemon.pid(role)
        with strace.at(pid, *step, action) as gone_off:
            if action == "STOP":
                waker = threading.Timer(ACCEPT * 2, wake, [pid])
                waker.start()
            outcome = ask(site)
            # Calls that come after the answer: nobody is harmed by what happens then.
            wait_for(gone_off, 5, f"{role} at {step}") if action == "KILL" else waker.join()
        wake(pid)
        assert outcome in allowed(role, action, step, order), f"{outcome} after {action} of the {role} at {step}"
        seen[step] = outcome
        if action == "KILL":
            deaths.wait(role, pid)
    print(f"\n{role} {action}: " + ", ".join(f"{call} {number} {outcome}" for (call, number), outcome in seen.items()))
    assert len(seen) >= 6


@pytest.mark.parametrize("action", ["KILL", "STOP"])
@pytest.mark.parametrize("role, call, number", [
    ("gate", "recvmsg", 5), ("gate", "sendmsg", 5), ("gate", "close", 9),
    ("streamer", "recvmsg", 5), ("streamer", "sendmsg", 40), ("streamer", "close", 9)])
def test_under_load(disturbed, role, call, number, action):
    site = disturbed
    deaths = Deaths(site.daemon)
    with Load(site.reference, 8, DEADLINE, least=40) as load:
        for round_number in range(20 if LONG else 1):
            wait_for(lambda: started_anew(site.daemon, role, 0), 10, role)
            pid = site.daemon.pid(role)
            with strace.at(pid, call, number + round_number % 3, action) as gone_off:
                wait_for(gone_off, 5, f"{role} at {call}")
                time.sleep(2 * ACCEPT if action == "STOP" else 0)
            wake(pid)
            if action == "KILL":
                deaths.wait(role, pid)
            time.sleep(0.2)
    assert load.count("whole") > 10, load.seen()
    if role == "gate" or action == "STOP":
        assert load.count("cut", "empty") == 0, load.seen()


# ---------------------------------------------------------------- two processes

def queue_at(site, role: str) -> threading.Thread:
    """A request whose handoff waits in the queue of a stopped role: the thread of its client; .outcome is set by it."""
    def client():
        thread.outcome = ask(site)
    thread = threading.Thread(target=client, daemon=True)
    os.kill(site.daemon.pid(role), signal.SIGSTOP)
    thread.start()
    time.sleep(0.1)
    return thread


def test_gate_dies_behind_a_handoff_that_waits(site):
    """The streamer has the message in its queue when the gate that sent it dies."""
    streamer, gate = site.daemon.pid("streamer"), site.daemon.pid("gate")
    thread = queue_at(site, "streamer")
    os.kill(gate, signal.SIGKILL)
    wake(streamer)
    thread.join(10)
    assert thread.outcome in ("whole", "refused")


@pytest.mark.parametrize("role", ["gate", "streamer"])
def test_dies_with_a_handoff_in_its_queue(site, role):
    """Nobody has taken it: it is sent again, or refused in time."""
    pid = site.daemon.pid(role)
    started = time.monotonic()
    thread = queue_at(site, role)
    os.kill(pid, signal.SIGKILL)
    thread.join(10)
    assert thread.outcome in ("whole", "refused") and time.monotonic() - started < DEADLINE


@pytest.mark.parametrize("role", ["gate", "streamer"])
def test_too_late(site, role):
    """Stopped until Apache has answered: what the streamer sends then fails, and it lets the client alone. The clients
    stay connected meanwhile, so that nothing else tells the daemon."""
    since = site.daemon.log.position()
    pid = site.daemon.pid(role)
    os.kill(pid, signal.SIGSTOP)
    clients = []
    try:
        for _ in range(6):
            clients.append(Client(site.port).send(get("/chat.php?prompt=late")))
        for client in clients:
            assert parse_response(client.read_all()).status == 503
    finally:
        wake(pid)
    site.daemon.log.wait(r"event=accept-too-late .*errno=32\b", 5, since, count=6)
    for client in clients:
        assert client.sock.recv(1) == b""
        client.close()
    assert site.daemon.counters("streamer")["handoffd_accept_too_late_total"] == 6


@pytest.mark.parametrize("role", ["gate", "streamer"])
def test_stopped_under_load(site, role):
    with Load(site.reference, 16, DEADLINE, least=60) as load:
        for _ in range(20 if LONG else 2):
            time.sleep(0.2)
            pid = site.daemon.pid(role)
            os.kill(pid, signal.SIGSTOP)
            try:
                assert ask(site) == "refused"
                time.sleep(ACCEPT)
            finally:
                wake(pid)
    assert load.count("whole") > 10, load.seen()
    assert load.count("cut", "empty", "ended") == 0, load.seen()


def test_at_random(site):
    """Any role, killed or stopped and continued, at any moment."""
    seed = int(os.environ.get("HANDOFF_SEED") or time.time_ns() % 1000000)
    chance, until = random.Random(seed), time.monotonic() + (120 if LONG else 4)
    print(f"\nHANDOFF_SEED={seed}")
    with Load(site.reference, 12, DEADLINE, least=60) as load:
        while time.monotonic() < until:
            time.sleep(chance.uniform(0, 0.3))
            pids = site.daemon.roles().get(chance.choice(["gate", "streamer"]), [])
            kill = chance.random() < 0.5
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL if kill else signal.SIGSTOP)
                    time.sleep(chance.choice([0, 0.01, ACCEPT, 2 * ACCEPT]))
                    wake(pid)
                except ProcessLookupError:
                    pass
            if chance.random() < 0.1:
                site.daemon.process.stop()
                site.daemon.start()
        wait_for(lambda: all(started_anew(site.daemon, role, 0) for role in ("gate", "streamer")), 15, "all roles")
    print(load.seen())
    assert load.count("whole") > 10, load.seen()


# ---------------------------------------------------------------- restarts in a loop

def test_graceful_in_a_loop(patient):
    """Nobody notices."""
    with Load(patient.reference, 8, DEADLINE, least=60) as load:
        for _ in range(60 if LONG else 4):
            time.sleep(0.15)
            patient.graceful()
    assert set(load.seen()) == {"whole"}, load.seen()


def test_restart_in_a_loop(site):
    """A stop cuts nobody: streams end by themselves or with an event that says so."""
    with Load(site.reference, 8, DEADLINE, least=60) as load:
        for _ in range(30 if LONG else 3):
            time.sleep(0.3)
            site.daemon.process.stop()
            site.daemon.start()
    assert load.count("cut", "empty") == 0 and load.count("whole") > 10, load.seen()


# ---------------------------------------------------------------- a daemon of the test's own, step by step

class StandIn(threading.Thread):
    """Gate and streamer in one, in the test: the data of each handoff says what becomes of it. To the module a process
    that dies is one whose descriptors are closed."""
    FATES = ("whole", "refused", "dropped-once", "dropped", "late", "at-the-deadline", "cut", "empty")

    def __init__(self, site):
        super().__init__(daemon=True)
        self.listener, self.ended, self.errors, self.known = site.listener(), threading.Event(), [], set()
        self.races = []  # at the deadline: "accepted" or "too late"
        self.dealing = []

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                handoff = self.listener.receive(0.1)
            except TimeoutError:
                continue
            self.dealing.append(threading.Thread(target=self._deal, args=[handoff], daemon=True))
            self.dealing[-1].start()

    def _deal(self, handoff) -> None:
        fate = handoff.data.decode().split()[0]
        try:
            getattr(self, "_" + fate.replace("-", "_"))(handoff)
        except Exception as error:  # raised by stop()
            self.errors.append(error)
        finally:
            handoff.close()

    def _whole(self, handoff):
        handoff.accept()
        handoff.answer(handoff.data)

    def _refused(self, handoff):
        handoff.refuse()

    def _dropped(self, handoff):
        pass

    def _dropped_once(self, handoff):
        if handoff.data in self.known:
            self._whole(handoff)
        self.known.add(handoff.data)

    def _late(self, handoff):
        handoff.reply_socket.settimeout(15)
        assert handoff.reply_socket.recv(1) == b"", "Apache waits no more"
        try:
            handoff.accept()
        except BrokenPipeError:
            return
        raise AssertionError("accepted after Apache had given up")

    def _at_the_deadline(self, handoff):
        time.sleep(ACCEPT + random.uniform(-0.004, 0.004))
        try:
            self._whole(handoff)
            self.races.append("accepted")
        except BrokenPipeError:
            self.races.append("too late")

    def _cut(self, handoff):
        handoff.accept()
        handoff.client.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it")

    def _empty(self, handoff):
        handoff.accept()

    def stop(self) -> None:
        self.ended.set()
        for thread in [self, *self.dealing]:
            thread.join(15)
        self.listener.close()
        if self.errors:
            raise self.errors[0]


def outcome_of(raw: bytes, fate: str) -> str:
    try:
        response = parse_response(raw)
    except HttpError as error:
        if not error.incomplete:
            raise
        return "cut" if raw else "empty"
    assert response.status == 503 or (response.status == 200 and response.body.startswith(fate.encode())), raw
    return "whole" if response.status == 200 else "refused"


EXPECTED = {"whole": {"whole"}, "refused": {"refused"}, "dropped-once": {"whole"}, "dropped": {"refused"},
            "late": {"refused"}, "at-the-deadline": {"whole", "refused"}, "cut": {"cut"}, "empty": {"empty"}}


@pytest.mark.parametrize("mpm", ["event", "prefork"])
def test_each_fate_under_load(factory, in_threads, mpm):
    """The module's half: whatever a daemon does at whichever step, each client gets the one answer that follows."""
    site = factory(Site, mpm, HURRIED, workers=50)
    site.expect(HARM)
    stand_in = StandIn(site)
    stand_in.start()

    def client(number):
        def run():
            for turn in range(80 if LONG else 8):
                fate = StandIn.FATES[(number + turn) % len(StandIn.FATES)]
                started = time.monotonic()
                path = "/hurried/app.php" if fate in ("late", "at-the-deadline") else "/app.php"
                with Client(site.port, timeout=20) as client:
                    client.send(get(site.target(site.plan(f"{fate} {number}-{turn}"), path)))
                    seen = outcome_of(client.read_all(), fate)
                assert seen in EXPECTED[fate], f"{fate}: {seen}"
                assert fate not in ("late", "dropped", "refused") or time.monotonic() - started < DEADLINE
        return run
    in_threads([client(number) for number in range(16)], timeout=300)
    stand_in.stop()
    print("\nat the deadline:", {name: stand_in.races.count(name) for name in set(stand_in.races)})
    assert len(stand_in.races) >= 16


# ---------------------------------------------------------------- what runs out

def test_full_backlog_under_load(factory, in_threads):
    """Nobody accepts and the backlog is full: 503 in time; as soon as there is room all are served."""
    site = factory(Site, "event", HURRIED)
    site.expect("reason=daemon-(unreachable|timeout)")
    with site.listener(backlog=0) as gate:
        def refused():
            started = time.monotonic()
            assert site.fetch(site.target(site.plan(), "/hurried/app.php")).status == 503
            return time.monotonic() - started
        taken = in_threads([refused] * 16)
        assert max(taken) < DEADLINE, taken
        server = threading.Thread(target=stubborn, args=(site, gate, 16), daemon=True)
        server.start()
        assert in_threads([lambda: site.fetch(site.target(site.plan())).body] * 16) == [b"handed off\n"] * 16
        server.join(10)


def stubborn(site, gate, count: int) -> None:
    """Serve so many handoffs; those that Apache has withdrawn do not count."""
    while count:
        handoff = gate.receive(10)
        try:
            handoff.accept()
        except BrokenPipeError:
            handoff.close()
            continue
        handoff.answer()
        count -= 1


@contextlib.contextmanager
def few_open_files(count: int):
    """For what is started inside: as `ulimit -n` in Apache's environment."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_descriptors_in_flight(factory, in_threads):
    """A daemon that does not read keeps descriptors in flight, of which Apache's user may have as many as its processes
    may have open files. Beyond that the kernel refuses to send: 503, and nobody's client is lost with it."""
    with few_open_files(128):
        site = factory(Site, "event", HURRIED.replace(" 250\n", " 50\n"), workers=25)
    site.expect("reason=daemon-(unreachable|timeout)")

    def ask(path="/app.php"):
        return site.fetch(site.target(site.plan(), path)).status
    with site.listener() as gate:
        for _ in range(10):
            assert in_threads([lambda: ask("/hurried/app.php")] * 8) == [503] * 8
        assert site.error_log.find("Too many references"), "the limit was not met"
        server = threading.Thread(target=stubborn, args=(site, gate, 20), daemon=True)
        server.start()
        time.sleep(0.2)
        assert [ask() for _ in range(20)] == [200] * 20
        server.join(10)


def descriptors(site) -> dict:
    """Open descriptors of Apache's children and of the daemon's roles."""
    counts = {role: sum(len(open_fds(pid)) for pid in pids) for role, pids in site.daemon.roles().items()}
    return {"apache": sum(len(open_fds(pid)) for pid in children(site.process.pid)), **counts}


def test_no_descriptor_more(patient):
    """After 2,000 handoffs (10,000 in the long form) no process holds one more than after 200. The connections between
    Apache and the gate are kept: as many as there were handoffs at the same moment, one end here, one there."""
    clients = 8
    with Load(patient.reference, clients, DEADLINE, least=200):
        pass
    before = descriptors(patient)
    with Load(patient.reference, clients, DEADLINE, least=10000 if LONG else 2000) as load:
        pass
    assert set(load.seen()) == {"whole"}, load.seen()

    def no_more() -> bool:
        more = {name: count - before[name] for name, count in descriptors(patient).items()}
        kept = more.pop("gate")
        return kept <= clients and more.pop("apache") <= kept and not any(count > 0 for count in more.values())
    wait_for(no_more, 5, f"as few as {before}, now {descriptors(patient)}")
