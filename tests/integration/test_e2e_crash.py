# SPDX-License-Identifier: Apache-2.0
"""A role that dies, a daemon that restarts, a supervisor that is killed: what clients see, and how it comes back."""
import os
import signal
import threading
import time

import pytest

from env import Client, HttpError, alive, get, request, wait_for

BACKENDS = {"quick": {"type": "demo", "delay": 1}, "slow": {"type": "demo", "delay": 100}}
LISTENS = {"quick": {"backend": "quick"}, "slow": {"backend": "slow"}}


@pytest.fixture
def site(handoffd_factory, apache_factory, fpm):
    daemon = handoffd_factory(BACKENDS, LISTENS)
    apache = apache_factory(php="fpm", fpm=fpm, keys=daemon.keys)
    for name in BACKENDS:
        apache.chat_page(daemon, f"{name}.php", name)
    apache.daemon = daemon
    return apache


def ask_until_served(apache, page="quick", within=15):
    """A request that may meet a clean 503 while a role is being introduced again, but is served soon."""
    deadline = time.monotonic() + within
    while True:
        apache.expect("reason=(no-streamer|daemon-unreachable|daemon-timeout|stopping)")
        response = request(apache.port, f"/{page}.php?prompt=again")
        if response.status == 200:
            assert response.text().startswith("again\n\n")
            return
        assert response.status == 503 and time.monotonic() < deadline, response.raw
        time.sleep(0.05)


@pytest.mark.parametrize("role", ["streamer", "dialer", "gate"])
def test_killed_role_comes_back(site, role):
    """The others go on: a stream of the other pool runs through, and the next request is served."""
    daemon = site.daemon
    others = {name: pids for name, pids in daemon.roles().items() if name != role}
    daemon.expect(rf"event=crashed role={role} .*signal=9")
    with Client(site.port) as client:
        client.send(get("/slow.php?prompt=before")).read_until(b"before")
        daemon.kill(role, "quick" if role == "streamer" else None)
        ask_until_served(site)
        assert client.response().text().startswith("before\n\n")
    for name, pids in others.items():
        assert daemon.roles()[name] == pids, f"{name} was started again too"


def test_killed_streamer_closes_its_clients_only(site):
    """Its own clients see a cut answer, not a second one and not silence; no other process holds them open."""
    site.daemon.expect("event=crashed role=streamer")
    client = Client(site.port)
    client.send(get("/slow.php?prompt=before")).read_until(b"before")
    started = time.monotonic()
    site.daemon.kill("streamer", "slow")
    with client, pytest.raises(HttpError) as error:
        client.response()
    assert error.value.incomplete, error.value
    assert time.monotonic() - started < 9
    ask_until_served(site, "slow")


def test_kill_again_and_again(site):
    """A role that dies a few times is started each time, with no more than a short wait."""
    site.daemon.expect("event=crashed role=streamer")
    for _ in range(3):
        site.daemon.kill("streamer", "quick")
    ask_until_served(site)


def outcome_of(client) -> str:
    """What a client got, of what it may get: "whole", "refused" (a whole 503), "ended" (the stream says it was ended),
    "closed" (nothing or a cut answer). Anything else is an error: a second status line, a control header, bytes after
    the end."""
    try:
        response = client.response(timeout=15)
    except HttpError as error:
        if error.incomplete:
            return "closed"
        raise
    if response.status == 503:
        return "refused"
    assert response.status == 200, response.raw
    if response.events()[-1][0] == "error":
        return "ended"
    assert response.text(), "an empty stream"
    return "whole"


def load(site, during, in_threads, clients=8, least=40):
    """Clients ask without pause while during() runs and for a moment after, until there were `least` whole streams; how often
    each outcome was seen."""
    stop, outcomes = threading.Event(), []

    def one():
        while not stop.is_set() or outcomes.count("whole") < least:
            with Client(site.port) as client:
                client.send(get("/quick.php?prompt=load"))
                outcomes.append(outcome_of(client))

    def disturb():
        time.sleep(0.3)
        during()
        time.sleep(0.3)
        stop.set()
    site.expect("reason=(no-streamer|daemon-unreachable|daemon-timeout|daemon-peer|stopping)")
    in_threads([disturb, *[one] * clients])
    return {name: outcomes.count(name) for name in sorted(set(outcomes))}


def test_restart_under_load(site, in_threads):
    def restart():
        site.daemon.process.stop()
        time.sleep(0.2)
        site.daemon.start()
    seen = load(site, restart, in_threads)
    assert seen.get("whole", 0) > 20 and seen.get("refused", 0) > 0, seen
    assert seen.get("closed", 0) == 0, f"a proper stop cuts nobody: {seen}"


@pytest.mark.parametrize("role", ["streamer", "gate"])
def test_crash_under_load(site, in_threads, role):
    site.daemon.expect(f"event=crashed role={role}")
    seen = load(site, lambda: site.daemon.kill(role, "quick" if role == "streamer" else None), in_threads)
    assert seen.get("whole", 0) > 20, seen
    if role == "gate":
        assert seen.get("closed", 0) == 0, f"the gate holds no client that nobody answers: {seen}"
    # Clients of a killed streamer are closed; each is one of those that were being served, not one after the other.
    assert seen.get("closed", 0) <= 8, seen


def test_graceful_restart_of_apache_under_load(site, in_threads):
    seen = load(site, lambda: (site.graceful(), time.sleep(0.2), site.graceful()), in_threads)
    assert set(seen) == {"whole"}, seen


def test_killed_supervisor_leaves_no_orphans(site):
    """Roles end with their supervisor."""
    pids = [pid for pids in site.daemon.roles().values() for pid in pids]
    os.kill(site.daemon.process.pid, signal.SIGKILL)
    wait_for(lambda: not any(map(alive, pids)), 5, "roles end with the supervisor")


def test_sigterm_ends_in_time(site):
    """With a stream that would last much longer: the client is told, and everything has ended within the time a service
    manager gives."""
    client = Client(site.port)
    client.send(get("/slow.php?prompt=" + "w+" * 3000)).read_until(b"data: ")
    started = time.monotonic()
    status = site.daemon.process.stop(60)
    with client:
        name, _ = client.response().events()[-1]
    assert name == "error" and status == 0
    assert not site.daemon.log.find("event=killing"), "the supervisor had no patience left for a role that keeps its time"
    assert time.monotonic() - started < 40
