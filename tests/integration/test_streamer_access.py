# SPDX-License-Identifier: Apache-2.0
"""The access log and what is known of tokens, of real processes in their cage."""
import datetime
import json
import os
import pathlib
import re
import resource
import threading
import time

import pytest

from env import UID_STREAMER, Handoffd, wait_for
from streams import DONE, Exchange, FINISH, TEXT, chunk, exchange, prompt_data, sse_script

USAGE = {"prompt_tokens": 11, "completion_tokens": 22, "total_tokens": 33}
ONLY_USAGE = json.dumps({"id": "chatcmpl-1", "choices": [], "usage": USAGE}).encode()
WITH_USAGE = b"".join(b"data: " + event + b"\n\n" for event in (chunk("a", usage=None), chunk("b"), FINISH, ONLY_USAGE)) + DONE


@pytest.fixture
def folder(env):
    """A folder of the streamer's."""
    made = env.folder("access", 0o755)
    if os.geteuid() == 0:
        os.chown(made, UID_STREAMER, UID_STREAMER)
    return made


@pytest.fixture
def logged(folder, factory):
    """logged(format, ...) -> (daemon, path) of a demo backend with an access log."""
    def make(log_format="json", name="access.log", backends=None, **how):
        path = folder / name
        daemon = factory(Handoffd, allow_peer=(os.geteuid(),), backends=backends or {"demo": {"type": "demo", "delay": 1}},
                         options={"access-log": path, "access-log-format": log_format}, **how)
        return daemon, path
    return make


def lines_of(path: pathlib.Path, count: int = 1) -> list:
    """That many lines, once they are there."""
    def enough():
        lines = path.read_text().splitlines()
        return lines if len(lines) >= count else None
    lines = wait_for(enough, 5, f"{count} lines in {path}")
    assert len(lines) == count and path.read_bytes().endswith(b"\n"), lines
    return lines


def entries_of(path, count=1) -> list:
    return [json.loads(line) for line in lines_of(path, count)]


def test_json(logged):
    daemon, path = logged()
    begun = time.time()
    with Exchange(daemon, prompt_data("x"), subject="user-42", request_id="req-1", target="/chat?a=b", method="POST",
                  client_address="2001:db8::7", server_name="www.example.org") as made:
        response = made.response()
        assert response.text() == "x" + TEXT
        entry, = entries_of(path)
        received = len(made.raw)
    assert path.stat().st_mode & 0o777 == 0o640
    written = datetime.datetime.fromisoformat(entry.pop("time").replace("Z", "+00:00")).timestamp()
    assert abs(written - begun) < 15
    assert 15 <= entry.pop("duration_ms") < 15000 and 0 <= entry.pop("first_byte_ms") < 5000 and entry.pop("id") > 0
    assert entry == {"request": "req-1", "backend": "demo", "client": "2001:db8::7", "server": "www.example.org",
                     "subject": "user-42", "method": "POST", "target": "/chat?a=b", "protocol": "HTTP/1.1", "status": 200,
                     "bytes": received, "outcome": "done", "relayed": False, "usage": "absent"}


def test_combined(logged):
    daemon, path = logged("combined")
    with Exchange(daemon, prompt_data("x"), subject='a "b"\\') as made:
        made.response()
        size = len(made.raw)
    line, = lines_of(path)
    assert re.fullmatch(r'127\.0\.0\.1 - a\\x20\\"b\\"\\\\ \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "GET / HTTP/1\.1" '
                        rf'200 {size} "-" "-" id=\d+ request=test backend=demo outcome=done duration_ms=\d+ '
                        r'first_byte_ms=\d+ usage=absent', line), line


def test_nothing_from_outside_forges_a_line(logged):
    daemon, path = logged("combined")
    exchange(daemon, prompt_data("x"), target='/"\n192.0.2.1 - admin \x1b[2J\\', request_id="\r\nx")
    line, = lines_of(path)
    assert r'"GET /\"\n192.0.2.1 - admin \x1b[2J\\ HTTP/1.1" 200 ' in line and r"request=\x0d\nx " in line


def test_client_that_leaves(logged):
    daemon, path = logged(backends={"demo": {"type": "demo", "delay": 10000}})
    with Exchange(daemon, prompt_data("x")) as made:
        made.read_until(b"data:")
        received = len(made.raw)
    entry, = entries_of(path)
    assert (entry["outcome"], entry["status"]) == ("client-gone", 200) and entry["bytes"] >= received > 0


def test_head(logged):
    daemon, path = logged()
    exchange(daemon, prompt_data("x"), method="HEAD")
    entry, = entries_of(path)
    assert entry["method"] == "HEAD" and "first_byte_ms" not in entry and entry["outcome"] == "done"


def test_shared_by_workers_and_backends(logged, in_threads):
    """Whole lines of several processes, at once, in one file; or a file for each."""
    backends = {"demo": {"type": "demo", "delay": 0, "workers": 2}}
    daemon, path = logged(backends=backends)
    in_threads([lambda n=n: [exchange(daemon, prompt_data("x"), request_id=f"{n}-{k}", target="/" + "y" * 7000)
                             for k in range(10)] for n in range(6)])
    entries = entries_of(path, 60)
    assert {entry["request"] for entry in entries} == {f"{n}-{k}" for n in range(6) for k in range(10)}
    daemon, path = logged(backends=backends, name="%b-%w.log")
    for _ in range(2):  # they take turns
        exchange(daemon, prompt_data("x"))
    for worker in (0, 1):
        assert len(lines_of(path.parent / f"demo-{worker}.log")) == 1


def test_rotation(logged):
    """Moved away and SIGHUP: running streams end in the old file, new ones in a new one. Cut to nothing: written on."""
    daemon, path = logged(backends={"demo": {"type": "demo", "delay": 30}})
    with Exchange(daemon, prompt_data("word " * 40), request_id="old") as running:
        running.read_until(b"word")
        moved = path.with_suffix(".1")
        path.rename(moved)
        daemon.reload()
        exchange(daemon, prompt_data("x"), request_id="new")
        running.response()
    assert [entry["request"] for entry in entries_of(moved)] == ["old"]
    assert [entry["request"] for entry in entries_of(path)] == ["new"]
    os.truncate(path, 0)
    exchange(daemon, prompt_data("x"), request_id="after")
    assert [entry["request"] for entry in entries_of(path)] == ["after"]


def test_disk_full(logged, folder):
    """Lines that do not fit are lost and counted; then it goes on, on a line of its own. Streams do not mind."""
    limit = 1 << 30  # the kernel's for a file stands for a full disk: a write is cut, the next ones are refused
    log = folder / "access.log"
    log.touch()
    os.truncate(log, limit - 40)
    os.chmod(log, 0o666)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        daemon, path = logged()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    daemon.expect("event=access-log-failed")
    for _ in range(3):
        assert exchange(daemon, prompt_data("x"), request_id="lost").text() == "x" + TEXT
    wait_for(lambda: daemon.counters("streamer").get("handoffd_access_log_lost_total", 0) == 3, 5, "three lost lines")
    assert len(daemon.log.find("event=access-log-failed")) == 1, "one line for all of it"
    assert path.stat().st_size == limit
    os.truncate(path, 0)
    exchange(daemon, prompt_data("x"), request_id="again")
    empty, again = lines_of(path, 2)
    assert empty == "" and json.loads(again)["request"] == "again"
    daemon.log.wait("event=access-log-again lost=3", 2)


@pytest.mark.parametrize("what", ["link", "folder", "pipe", "nowhere"])
def test_what_is_no_file(folder, factory, what):
    path = folder / "access.log"
    if what == "link":
        (folder / "other").touch()
        os.chmod(folder / "other", 0o666)
        path.symlink_to(folder / "other")
    elif what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path = folder / "none" / "access.log"
    daemon = factory(Handoffd, wait=False, options={"access-log": path})
    daemon.expect("event=(fatal|exited|gave-up)")
    daemon.log.wait("handoffd-streamer.*event=fatal message=.access log", 10)
    daemon.stop()


# ---------------------------------------------------------------- tokens

def usage_of(daemon, since=0) -> dict:
    line = daemon.log.wait("event=stream-end", 5, since)[-1]
    return dict(re.findall(r"(usage|prompt_tokens|completion_tokens)=(\S+)", line))


def test_exact(scripted):
    upstream, daemon = scripted(sse_script(WITH_USAGE))
    assert exchange(daemon, prompt_data("x")).text() == "ab"
    assert usage_of(daemon) == {"usage": "exact", "prompt_tokens": "11", "completion_tokens": "22"}
    counters = daemon.counters("streamer")
    assert counters["handoffd_usage_total/exact"] == 1 and counters["handoffd_prompt_tokens_total"] == 11
    assert counters["handoffd_completion_tokens_total"] == 22


@pytest.mark.parametrize("wanted", [False, True])
def test_exact_in_passthrough(scripted, wanted):
    """The event that tells of usage is for us; a client gets it where the data asks for it."""
    upstream, daemon = scripted(sse_script(WITH_USAGE), output="passthrough")
    more = {"stream_options": {"include_usage": True}} if wanted else {}
    body = exchange(daemon, prompt_data("x", **more)).body
    assert body == (WITH_USAGE if wanted else WITH_USAGE.replace(b"data: " + ONLY_USAGE + b"\n\n", b""))
    assert usage_of(daemon)["usage"] == "exact"


@pytest.mark.parametrize("output", ["content", "passthrough", "text"])
def test_estimated(scripted, output):
    """Nothing was said: the pieces that came are counted."""
    raw = b"".join(b"data: " + chunk(str(n)) + b"\n\n" for n in range(7)) + b"data: " + FINISH + b"\n\n" + DONE
    upstream, daemon = scripted(sse_script(raw), output=output)
    exchange(daemon, prompt_data("x"))
    assert usage_of(daemon) == {"usage": "estimated", "prompt_tokens": "-1", "completion_tokens": "7"}
    assert daemon.counters("streamer")["handoffd_usage_total/estimated"] == 1


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": 1}, {"prompt_tokens": -1, "completion_tokens": 2},
                                   {"prompt_tokens": "1", "completion_tokens": 2},
                                   {"prompt_tokens": 1, "completion_tokens": 1 << 40}])
def test_usage_that_is_none(scripted, usage):
    raw = b"data: " + chunk("a", usage=usage) + b"\n\n" + DONE
    upstream, daemon = scripted(sse_script(raw))
    assert exchange(daemon, prompt_data("x")).text() == "a"
    assert usage_of(daemon)["usage"] == "estimated"


@pytest.mark.parametrize("scripted", ["http1"], indirect=True)  # nginx sends the head with the first of the body
def test_absent(scripted):
    """Nothing came: that is not nought tokens."""
    def script(connection):
        connection.read_request()
        connection.head()
        connection.wait_gone()
    upstream, daemon = scripted(script)
    with Exchange(daemon, prompt_data("x")) as made:
        made.read_until(b"\r\n\r\n")
    assert usage_of(daemon) == {"usage": "absent", "prompt_tokens": "-1", "completion_tokens": "-1"}
    assert daemon.counters("streamer")["handoffd_usage_total/absent"] == 1


def test_client_that_leaves_early(scripted):
    """What it cost is not known; what came is the least of it."""
    def script(connection):
        connection.read_request()
        connection.head()
        for word in ("a", "b", "c"):
            connection.event(word)
        connection.wait_gone()
    upstream, daemon = scripted(script)
    with Exchange(daemon, prompt_data("x")) as made:
        made.read_until(b'"c"')
    assert usage_of(daemon) == {"usage": "estimated", "prompt_tokens": "-1", "completion_tokens": "3"}


def test_drained_answers_have_exact_usage(scripted):
    left = threading.Event()

    def script(connection):
        connection.read_request()
        connection.head()
        connection.event("a")
        left.wait(10)
        time.sleep(0.2)
        connection.chunk(WITH_USAGE)
        connection.send(b"0\r\n\r\n")
    upstream, daemon = scripted(script, **{"on-disconnect": "drain"})
    with Exchange(daemon, prompt_data("x")) as made:
        made.read_until(b'"a"')
    left.set()
    assert usage_of(daemon)["usage"] == "exact"


def test_demo_takes_no_tokens(logged):
    daemon, path = logged()
    exchange(daemon, prompt_data("x"))
    assert not [name for name in daemon.counters("streamer") if name.startswith("handoffd_usage_total/")]
