# SPDX-License-Identifier: Apache-2.0
"""The status page through a real Apache: numbers that move by what happened, in each format, and what harms it not."""
import html.parser
import json
import os
import re
import signal
import socket
import struct
import threading
import time

import pytest

import handoff1
from env import AS_ROOT, ROOT, UID_APACHE, Apache, KeyRing, PhpFpm, request, wait_for
from handoff1 import Sender, tcp_pair

pytestmark = pytest.mark.skipif(not AS_ROOT, reason="Apache, php-fpm and handoffd under several uids need root")

STATUS = '<Location /status>\nSetHandler socket-handoff-status\nSocketHandoffStatusSocket {}\n</Location>\n'


# ---------------------------------------------------------------- reading the formats, strictly

NAME = r"[a-zA-Z_][a-zA-Z0-9_]*"
LABEL = rf'{NAME}="(?:[^"\\\n]|\\[\\"n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? ([0-9]+(?:\.[0-9]+)?)")
TYPES = ("counter", "gauge", "histogram")


class Metrics(dict):
    """{(name, frozenset of labels): value}, of a text that is checked on the way; types and helps by family."""

    def __init__(self, text: str):
        super().__init__()
        self.types, self.helps = {}, {}
        family = None
        assert text.endswith("\n")
        for line in text[:-1].split("\n"):
            if line.startswith("# HELP "):
                family, help_text = re.fullmatch(rf"# HELP ({NAME}) (.+)", line).groups()
                assert family not in self.helps, f"{family} twice"
                self.helps[family] = help_text
            elif line.startswith("#"):
                name, kind = re.fullmatch(rf"# TYPE ({NAME}) (\w+)", line).groups()
                assert name == family and name not in self.types and kind in TYPES
                self.types[name] = kind
            else:
                match = SAMPLE.fullmatch(line)
                assert match, line
                self._add(family, *match.groups())
        self._check_histograms()

    def _add(self, family, name, labels, value):
        kind = self.types[family]
        assert name == family if kind != "histogram" else name in (f"{family}_bucket", f"{family}_sum", f"{family}_count")
        pairs = re.findall(rf'({NAME})="((?:[^"\\]|\\.)*)"', labels or "")
        assert len({name for name, _ in pairs}) == len(pairs)
        key = name, frozenset(pairs)
        assert key not in self, f"{key} twice"
        self[key] = float(value)

    def _check_histograms(self):
        for family in (name for name, kind in self.types.items() if kind == "histogram"):
            series = {}
            for (name, labels), value in self.items():
                if name == f"{family}_bucket":
                    bound = float(dict(labels)["le"].replace("+Inf", "inf"))
                    series.setdefault(frozenset(pair for pair in labels if pair[0] != "le"), []).append((bound, value))
            assert series
            for labels, buckets in series.items():
                assert sorted(buckets) == buckets and [count for _, count in buckets] == sorted(count for _, count in buckets)
                assert buckets[-1] == (float("inf"), self[f"{family}_count", labels])
                assert (f"{family}_sum", labels) in self

    def get_sum(self, name: str, **labels) -> float:
        """All samples of this name that have these labels, added up; there must be one."""
        found = [value for (other, pairs), value in self.items() if other == name and labels.items() <= dict(pairs).items()]
        assert found, f"no {name} {labels}"
        return sum(found)

    def moved(self, before) -> dict:
        """What grew, without the durations themselves."""
        return {(name, *sorted(f"{label}={value}" for label, value in labels if label not in ("daemon", "backend"))):
                value - before.get((name, labels), 0)
                for (name, labels), value in self.items()
                if value != before.get((name, labels), 0) and not name.endswith(("_bucket", "_sum"))}


class WellFormed(html.parser.HTMLParser):
    """Every element closed in its order, ids once; .text is what is to be read, .cells the first two of each row."""

    def __init__(self, page: str):
        super().__init__()
        self.open, self.ids, self.text, self.tags = [], set(), "", []
        self.feed(page)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        assert len(values) == len(attributes)
        if "id" in values:
            assert values["id"] not in self.ids
            self.ids.add(values["id"])
        assert not {"src", "srcset", "onclick", "style"} & values.keys() and values.get("href", "?").startswith("?")
        self.tags.append(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag == "meta"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text += data

    def handle_decl(self, decl):
        assert decl == "DOCTYPE html"


def metrics(apache, path="/status") -> Metrics:
    response = request(apache.port, f"{path}?format=prometheus")
    assert response.status == 200, response.status
    assert response.header("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    return Metrics(response.body.decode("ascii"))


def page_json(apache, path="/status") -> dict:
    response = request(apache.port, f"{path}?format=json")
    assert response.status == 200 and response.header("Content-Type") == "application/json"
    return json.loads(response.body)


def page_html(apache, path="/status") -> WellFormed:
    response = request(apache.port, path)
    assert response.status == 200 and response.header("Content-Type") == "text/html; charset=utf-8"
    assert response.header("Cache-Control") == "no-store"
    return WellFormed(response.body.decode())


@pytest.fixture(name="site")
def fixture_site(handoffd_factory, apache_factory, fpm):
    daemon = handoffd_factory()
    apache = apache_factory(php="fpm", fpm=fpm, keys=daemon.keys, conf=STATUS.format(daemon.path()))
    apache.daemon = daemon
    apache.chat_page(daemon)
    apache.emit_page(daemon.keys.key)
    return apache


def settled(apache, name: str, value: float, **labels) -> Metrics:
    """The numbers once this one is there."""
    found = []

    def there():
        found[:] = [metrics(apache)]
        return found[0].get_sum(name, **labels) == value
    wait_for(there, 5, f"{name} {labels} = {value}")
    return found[0]


# ---------------------------------------------------------------- numbers

def test_one_handoff_moves_its_numbers_and_no_others(site):
    metrics(site)
    before = metrics(site)
    response = request(site.port, "/chat.php", body=b"one two three")
    assert response.status == 200
    settled(site, "daemon_active_streams", 0)
    settled(site, "socket_handoff_handoffs_total", 1, result="accepted")
    moved = metrics(site).moved(before)
    assert moved.pop(("handoffd_status_requests_total",)) >= 1
    # A worker thread that had none yet may have opened a connection; the first handoff of all is a new peak.
    for name in ("daemon_connections_total", "daemon_active_connections", "daemon_peak_streams"):
        assert moved.pop((name,), 0) in (0, 1)
    assert moved.pop(("daemon_bytes_sent_total",)) == len(response.raw)
    events = len(response.events())
    assert moved == {
        ("socket_handoff_handoffs_total", "result=accepted"): 1, ("daemon_handoffs_total",): 1,
        ("daemon_handoff_duration_seconds_count",): 1, ("daemon_stream_duration_seconds_count",): 1,
        ("daemon_backend_requests_total",): 1, ("daemon_backend_duration_seconds_count",): 1,
        ("daemon_backend_ttfb_seconds_count",): 1, ("handoffd_forwarded_total",): 1, ("handoffd_received_total",): 1,
        ("handoffd_streams_total", "outcome=done"): 1, ("daemon_chunks_sent_total",): events}


def test_streams_are_shown_while_they_run(handoffd_factory, apache_factory, fpm):
    daemon = handoffd_factory({"slow": {"type": "demo", "delay": 200}})
    apache = apache_factory(php="fpm", fpm=fpm, keys=daemon.keys, conf=STATUS.format(daemon.path()))
    apache.chat_page(daemon)
    pairs = [socket.create_connection(("127.0.0.1", apache.port)) for _ in range(3)]
    for sock in pairs:
        sock.sendall(b"GET /chat.php?prompt=" + b"a+" * 200 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        sock.recv(100)
    now = settled(apache, "daemon_active_streams", 3)
    assert now.get_sum("daemon_peak_streams") == 3 and now.get_sum("daemon_bytes_sent_total") > 3 * 100
    assert now.get_sum("daemon_stream_duration_seconds_count") == 0
    for sock in pairs:
        sock.close()
    now = settled(apache, "daemon_active_streams", 0)
    assert now.get_sum("daemon_peak_streams") == 3
    assert now.get_sum("daemon_stream_errors_total", reason="client-gone") == 3
    assert now.get_sum("handoffd_streams_total", outcome="client-gone") == 3


def test_refusals_by_reason(site, env):
    """At the module, at the gate, at the streamer; each in one place only."""
    path, before = site.daemon.path(), metrics(site)
    site.expect("reason=token-expired", "reason=token-key-unknown", "reason=request-invalid")
    assert request(site.port, site.emit(path=path, data="{}", exp=-30)).status == 403
    assert request(site.port, site.emit(path=path, data="[]")).status == 400
    expected = {("socket_handoff_refused_total", "by=module", "reason=token-expired"),
                ("socket_handoff_refused_total", "by=daemon", "reason=request-invalid"),
                ("daemon_handoff_errors_total", "reason=request-invalid")}
    # Each counts when it has answered.
    wait_for(lambda: expected <= metrics(site).moved(before).keys(), 5, "the counters")
    moved = metrics(site).moved(before)
    assert {moved[name] for name in expected} == {1}
    assert ("daemon_handoff_errors_total", "reason=token-expired") not in moved
    assert not [key for key in moved if key[0] in ("daemon_handoffs_total", "socket_handoff_handoffs_total")]


def test_refusal_by_the_gate(handoffd_factory, apache_factory, fpm, env):
    """The module knows a key that the gate does not."""
    daemon = handoffd_factory()
    keys = KeyRing(env, handoff1.Key(kid="stranger"))
    apache = apache_factory(php="fpm", fpm=fpm, keys=keys, conf=STATUS.format(daemon.path()))
    apache.emit_page(keys.key)
    apache.expect("reason=token-key-unknown")
    before = metrics(apache)
    assert request(apache.port, apache.emit(path=daemon.path(), data="{}")).status == 403
    wait_for(lambda: ("socket_handoff_refused_total", "by=daemon", "reason=token-key-unknown") in metrics(apache).moved(before), 5)
    moved = metrics(apache).moved(before)
    assert moved["socket_handoff_refused_total", "by=daemon", "reason=token-key-unknown"] == 1
    assert moved["daemon_handoff_errors_total", "reason=token-key-unknown"] == 1


def test_totals_survive_a_streamer(site):
    for _ in range(3):
        assert request(site.port, "/chat.php", body=b"x").status == 200
    before = settled(site, "daemon_handoffs_total", 3)
    site.daemon.expect("event=crashed|event=exited")
    for lives in range(2):
        site.daemon.kill("streamer")
        now = settled(site, "handoffd_worker_up", 1, role="streamer")
        fallen = {key: (value, now[key]) for key, value in before.items()
                  if now.types.get(key[0], "histogram") != "gauge" and now[key] < value}
        assert not fallen
        assert now.get_sum("daemon_handoffs_total") == 3 + lives and now.get_sum("daemon_active_streams") == 0
        assert request(site.port, "/chat.php", body=b"x").status == 200
        before = settled(site, "daemon_handoffs_total", 4 + lives)


def test_a_new_gate_knows_what_streamers_had_counted(site):
    assert request(site.port, "/chat.php", body=b"x").status == 200
    settled(site, "daemon_handoffs_total", 1)
    site.daemon.expect("event=crashed|event=exited")
    site.daemon.kill("gate")
    now = settled(site, "daemon_handoffs_total", 1)
    assert now.get_sum("handoffd_forwarded_total") == 0
    assert request(site.port, "/chat.php", body=b"x").status == 200
    settled(site, "daemon_handoffs_total", 2)


def test_the_module_counts_over_graceful_restarts(site):
    assert request(site.port, "/chat.php", body=b"x").status == 200
    site.graceful()
    assert request(site.port, "/chat.php", body=b"x").status == 200
    settled(site, "socket_handoff_handoffs_total", 2, result="accepted")


# ---------------------------------------------------------------- formats

def test_formats_agree(site):
    assert request(site.port, "/chat.php", body=b"x").status == 200
    settled(site, "socket_handoff_handoffs_total", 1, result="accepted")
    settled(site, "daemon_active_streams", 0)
    document, text = page_json(site), metrics(site)
    assert {entry["name"] for entry in document["metrics"]} == text.types.keys()
    count = 0
    for entry in document["metrics"]:
        assert entry["type"] == text.types[entry["name"]] and entry["help"] == text.helps[entry["name"]]
        for sample in entry["samples"]:
            key = sample["name"], frozenset(sample["labels"].items())
            assert key in text
            if not key[0].startswith(("handoffd_status", "daemon_conn", "daemon_active_conn")):
                assert text[key] == sample["value"]
            count += 1
    assert count == len(text)
    assert document["listeners"] == [{"path": site.daemon.path(), "up": True, "daemon": site.daemon.path()}]
    assert abs(document["time"] - time.time()) < 60
    page = page_html(site)
    for name in text.types:
        assert name in page.text
    assert site.daemon.path() in page.text and "main" in page.tags and page.tags.count("h1") == 1


def test_methods_and_queries(site):
    for query, content_type in (("", "text/html"), ("?format=json", "application/json"), ("?format=prometheus", "text/plain"),
                                ("?format=html", "text/html"), ("?", "text/html")):
        head = request(site.port, f"/status{query}", method="HEAD")
        assert head.status == 200 and head.body == b"" and head.header("Content-Type").startswith(content_type)
    for query in ("?format=xml", "?format=", "?format=json&x=1", "?<script>"):
        assert request(site.port, f"/status{query}").status == 400
    answer = request(site.port, "/status", body=b"x")
    assert answer.status == 405 and "GET" in answer.header("Allow")


def test_documentation_lists_exactly_what_is_shown(site):
    text = metrics(site)
    documented = {}
    for line in (ROOT / "docs" / "metrics.md").read_text().splitlines():
        match = re.fullmatch(r"\| `(\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|", line)
        if match:
            name, kind, labels, meaning = match.groups()
            documented[name] = kind, set(re.findall(r"`(\w+)`", labels)), meaning
    shown = {}
    for name, kind in text.types.items():
        labels = {label for (sample, pairs) in text for label, _ in pairs
                  if sample == name or (kind == "histogram" and sample in (f"{name}_bucket", f"{name}_count"))}
        shown[name] = kind, labels - {"le", "daemon"}, text.helps[name]
    assert documented == shown


def test_secrets_and_subjects_are_not_shown(site):
    secret = handoff1.b64url(site.daemon.keys.key.secret)[:20]
    assert request(site.port, "/chat.php?subject=user-4711&prompt=whisper").status == 200
    for query in ("", "?format=json", "?format=prometheus"):
        body = request(site.port, f"/status{query}").body.decode()
        for word in ("user-4711", "whisper", secret, "127.0.0.1:"):
            assert word not in body


# ---------------------------------------------------------------- listeners

def test_two_listeners_of_one_daemon_count_once(handoffd_factory, apache_factory):
    daemon = handoffd_factory(listens={"chat": {"backend": "demo"}, "other": {"backend": "demo"}})
    apache = apache_factory(keys=daemon.keys, conf=STATUS.format(f"{daemon.path('chat')} {daemon.path('other')}"))
    now = metrics(apache)
    assert len([key for key in now if key[0] == "handoffd_info"]) == 1
    assert now.get_sum("socket_handoff_up") == 2
    assert [listener["daemon"] for listener in page_json(apache)["listeners"]] == [daemon.path("chat")] * 2
    assert "the same daemon" in page_html(apache).text


def test_two_daemons_and_the_sockets_of_the_location(handoffd_factory, apache_factory, env):
    keys = KeyRing(env)
    one, two = handoffd_factory(keys=keys), handoffd_factory(keys=keys)
    conf = f"SocketHandoffSocket {one.path()} {two.path()}\n<Location /status>\nSetHandler socket-handoff-status\n</Location>\n"
    apache = apache_factory(keys=keys, conf=conf)
    now = metrics(apache)
    assert {dict(labels)["daemon"] for name, labels in now if name == "daemon_handoffs_total"} == {one.path(), two.path()}
    two.expect("event=")
    two.stop()
    now = metrics(apache)
    assert now.get_sum("socket_handoff_up", listener=one.path()) == 1
    assert now.get_sum("socket_handoff_up", listener=two.path()) == 0
    assert {dict(labels)["daemon"] for name, labels in now if name == "daemon_handoffs_total"} == {one.path()}


def test_many_backends_take_several_messages(handoffd_factory, apache_factory):
    daemon = handoffd_factory({f"backend-with-a-long-name-{i}": {"type": "demo"} for i in range(16)})
    apache = apache_factory(keys=daemon.keys, conf=STATUS.format(daemon.path()))
    response = request(apache.port, "/status?format=prometheus")
    assert len(response.body) > 70000
    now = Metrics(response.body.decode())
    assert len([key for key in now if key[0] == "daemon_backend_requests_total"]) == 16


def test_gate_down(site):
    path = site.daemon.path()
    site.daemon.stop()
    now = metrics(site)
    assert now.get_sum("socket_handoff_up") == 0
    assert not [name for name in now.types if name.startswith(("daemon_", "handoffd_"))]
    listener, = page_json(site)["listeners"]
    assert (listener["path"], listener["up"], listener["problem"]) == (path, False, "daemon-unreachable")
    assert "Down: daemon-unreachable" in page_html(site).text


def test_gate_that_hangs(site):
    gate = site.daemon.pid("gate")
    os.kill(gate, signal.SIGSTOP)
    try:
        started = time.monotonic()
        listener, = page_json(site)["listeners"]
        assert time.monotonic() - started < 4
    finally:
        os.kill(gate, signal.SIGCONT)
    assert listener["problem"] == "daemon-timeout"
    settled(site, "socket_handoff_up", 1)


def test_peer_that_is_not_the_daemon(handoffd_factory, apache_factory):
    daemon = handoffd_factory()
    apache = apache_factory(keys=daemon.keys, peer=64999, conf=STATUS.format(daemon.path()))
    assert page_json(apache)["listeners"][0]["problem"] == "daemon-peer"
    nobody = apache_factory(peer=None, conf="SocketHandoffEnabled Off\n" + STATUS.format(daemon.path()))
    assert "SocketHandoffPeer is not set" in page_json(nobody)["listeners"][0]["detail"]


def test_no_listener_and_raw(handoffd_factory, apache_factory):
    daemon = handoffd_factory()
    apache = apache_factory(conf="SocketHandoffEnabled Off\n<Location /none>\nSetHandler socket-handoff-status\n</Location>\n"
                            "<Location /raw>\nSetHandler socket-handoff-status\nSocketHandoffProtocol raw\n"
                            f"SocketHandoffStatusSocket {daemon.path()}\n</Location>\n")
    assert page_json(apache, "/none")["listeners"] == [] and "None:" in page_html(apache, "/none").text
    assert page_json(apache, "/raw")["listeners"][0]["problem"] == "raw"


def test_access_is_the_administrators(handoffd_factory, apache_factory):
    daemon = handoffd_factory()
    conf = STATUS.format(daemon.path()) + "<Location /status>\nRequire all denied\n</Location>\n"
    apache = apache_factory(keys=daemon.keys, conf=conf, log_level="info")
    apache.expect("AH01630|client denied")
    assert request(apache.port, "/status?format=prometheus").status == 403


# ---------------------------------------------------------------- who lies and who breaks the rules

MAGIC = b"HANDSTAT"
QUESTION = MAGIC + struct.pack("<II", 16, 0)


def part(text: bytes, number=0, last=1, instance=7, **changes) -> bytes:
    length = changes.get("length", 32 + len(text))
    return changes.get("magic", MAGIC) + struct.pack("<IIQHHI", length, number, instance, last, changes.get("zero", 0), 0) + text


RIGHT = b"# HELP daemon_handoffs_total x\n# TYPE daemon_handoffs_total counter\ndaemon_handoffs_total 1\n"
EVIL = b'</td><script>alert(1)</script>&"'
ANSWERS = {
    "nothing": [],
    "an empty message's worth of rubbish": [b"x"],
    "another magic": [part(RIGHT, magic=b"HANDOFF1")],
    "a wrong length": [part(RIGHT, length=40)],
    "a first part that is not the first": [part(RIGHT, number=1)],
    "no last part": [part(RIGHT, last=0)],
    "a part twice": [part(RIGHT, last=0), part(RIGHT)],
    "parts of two gates": [part(RIGHT, last=0), part(RIGHT, number=1, instance=8)],
    "a flag that is none": [part(RIGHT, last=2)],
    "bytes that must be zero": [part(RIGHT, zero=1)],
    "half a line": [part(RIGHT[:-1])],
    "a line that is none": [part(RIGHT + b"hello\n")],
    "a name of the module's": [part(RIGHT.replace(b"daemon_", b"socket_handoff_"))],
    "a name of another kind": [part(RIGHT.replace(b"daemon_", b"up_"))],
    "a sample of another family": [part(RIGHT + b"daemon_other 1\n")],
    "a sample before its type": [part(b"daemon_handoffs_total 1\n")],
    "our own label": [part(RIGHT + b'daemon_handoffs_total{daemon="x"} 1\n')],
    "a value that is no number": [part(RIGHT.replace(b"total 1\n", b"total NaN\n"))],
    "a value that JSON does not know": [part(RIGHT.replace(b"total 1\n", b"total 01\n"))],
    "a type that is none": [part(RIGHT.replace(b"counter", b"banana"))],
    "a control byte": [part(RIGHT.replace(b" x", b" \x07"))],
    "bytes that are no ASCII": [part(RIGHT.replace(b" x", b" \xc3\xa9"))],
    "an open label": [part(RIGHT + b'daemon_handoffs_total{a="b} 1\n')],
}


class Liar:
    """Listens in the daemon's place and answers each question with the same parts."""

    def __init__(self, path):
        self.parts = []
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.bind(str(path))
        os.chmod(path, 0o666)
        self.sock.listen(8)
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def stop(self):
        # Before the descriptor's number can be another socket's, the thread that uses it must have ended.
        self.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)
        self.sock.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            while True:
                message, fds = handoff1.receive(connection)
                if not message:
                    return
                assert message == QUESTION and len(fds) == 1
                with socket.socket(fileno=fds[0]) as reply:
                    for piece in self.parts:
                        reply.send(piece)


@pytest.fixture(scope="module", name="liar")
def fixture_liar(env):
    folder = env.folder("liar", 0o755)
    liar = Liar(folder / "liar.sock")
    with Apache(env, keys=KeyRing(env), peer=0, conf=STATUS.format(folder / "liar.sock")) as apache:
        liar.apache = apache
        yield liar
    liar.stop()


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_that_makes_no_sense(liar, answer):
    liar.parts = ANSWERS[answer]
    now = metrics(liar.apache)
    assert now.get_sum("socket_handoff_up") == 0 and "daemon_handoffs_total" not in now.types
    assert page_json(liar.apache)["listeners"][0]["problem"] in ("no-answer", "not-understood")


def test_what_a_daemon_says_is_escaped(liar):
    quoted = EVIL.replace(b'"', b'\\"')
    liar.parts = [part(b"# HELP daemon_x " + EVIL + b"\n# TYPE daemon_x counter\n"
                       b'daemon_x{a="' + quoted + b'",b="back\\\\slash\\n,}="} 3\n')]
    page = page_html(liar.apache)
    assert "script" not in page.tags and EVIL.decode() in page.text
    entry, = (entry for entry in page_json(liar.apache)["metrics"] if entry["name"] == "daemon_x")
    assert entry["help"] == EVIL.decode()
    assert entry["samples"][0]["labels"] | {"daemon": ""} == {"a": EVIL.decode(), "b": "back\\slash\n,}=", "daemon": ""}
    assert metrics(liar.apache).get_sum("daemon_x") == 3


def test_listener_path_is_escaped(apache_factory):
    apache = apache_factory(keys=None, conf="SocketHandoffEnabled Off\n" +
                            STATUS.format('"/run/<script>&\\"quoted\u00e9.sock"'))
    page = page_html(apache)
    assert '/run/<script>&"quoted' in page.text and "script" not in page.tags
    assert page_json(apache)["listeners"][0]["path"].startswith('/run/<script>&"quoted')
    metrics(apache)


@pytest.fixture(name="open_daemon")
def fixture_open_daemon(handoffd_factory):
    daemon = handoffd_factory(allow_peer=(0,))
    daemon.key = daemon.keys.key
    return daemon


def ask(path, message=QUESTION, descriptors=None):
    """Send a question; the parts that come back (None: the connection was closed)."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parts = []
    with Sender(path) as sender, ours, theirs:
        sender.send_message(message, [theirs] if descriptors is None else descriptors)
        theirs.close()
        ours.settimeout(5)
        while descriptors is None and (piece := ours.recv(1 << 17)):
            parts.append(piece)
        return None if sender.closed(0.1 if descriptors is None else 5) else parts


def serves(daemon) -> bool:
    with Sender(daemon.path()) as sender, tcp_pair() as pair:
        return sender.handoff(pair.server, b'{"prompt":"x"}', key=daemon.key).receive().accepted


def test_the_right_question(open_daemon):
    answer, = ask(open_daemon.path())
    magic, length, number, instance, last, zero, more = struct.unpack("<8sIIQHHI", answer[:32])
    assert (magic, length, number, last, zero, more) == (MAGIC, len(answer), 0, 1, 0, 0) and instance != 0
    Metrics(answer[32:].decode())


def test_questions_that_break_the_rules(open_daemon, env):
    """Each closes its own connection and nothing else; no descriptor stays behind."""
    gate = open_daemon.pid("gate")
    with Sender(open_daemon.path()) as bystander:
        assert serves(open_daemon)
        before = len(os.listdir(f"/proc/{gate}/fd"))
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listening.bind(str(env.folder("listening") / "sock"))
        listening.listen(1)
        alone = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stream, datagram = socket.socketpair(), socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        null = os.open("/dev/null", os.O_RDWR)
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for message, descriptors in (
                (QUESTION, []), (QUESTION, list(pair)), (QUESTION, [listening]), (QUESTION, [alone]),
                (QUESTION, [stream[0]]), (QUESTION, [datagram[0]]), (QUESTION, [null]),
                (QUESTION, [pair[0], pair[1], null, null]), (MAGIC, [pair[0]]), (QUESTION[:-1], [pair[0]]),
                (QUESTION + b"\0", [pair[0]]), (MAGIC + struct.pack("<II", 17, 0), [pair[0]]),
                (MAGIC + struct.pack("<II", 16, 1), [pair[0]]), (b"HANDSTA", [pair[0]]), (b"handstat" + QUESTION[8:], [pair[0]])):
            assert ask(open_daemon.path(), message, descriptors) is None, (message, descriptors)
        for thing in (listening, alone, *stream, *datagram, *pair):
            thing.close()
        os.close(null)
        assert serves(open_daemon) and open_daemon.pid("gate") == gate
        assert not bystander.closed(0.1)
        wait_for(lambda: len(os.listdir(f"/proc/{gate}/fd")) <= before, 5, "descriptors are closed")


def test_askers_that_do_not_read(handoffd_factory):
    """Their answers are dropped after a moment, and are few meanwhile; handoffs and other askers are not held up."""
    daemon = handoffd_factory({f"b{i}": {"type": "demo"} for i in range(12)}, allow_peer=(0,))
    daemon.key = daemon.keys.key
    gate = daemon.pid("gate")
    before = len(os.listdir(f"/proc/{gate}/fd"))
    kept = []
    with Sender(daemon.path()) as sender:
        for _ in range(40):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            sender.send_message(QUESTION, [theirs])
            theirs.close()
            kept.append(ours)
        assert serves(daemon)
        wait_for(lambda: len(os.listdir(f"/proc/{gate}/fd")) <= before + 1, 6, "answers are dropped")
        assert not sender.closed(0.1)
    assert ask(daemon.path())[-1][24:26] == b"\1\0"
    for sock in kept:
        sock.close()


def test_the_question_needs_the_right_uid(handoffd_factory):
    """allow-peer holds for questions too."""
    daemon = handoffd_factory(allow_peer=(UID_APACHE,))
    daemon.expect("reason=peer-forbidden")
    try:
        assert ask(daemon.path()) is None
    except BrokenPipeError:
        pass  # it was closed even before we could ask
    assert daemon.counters("gate")["handoffd_status_requests_total"] == 0


# ---------------------------------------------------------------- PHP and its rights

def checks(apache) -> dict:
    return {check["name"]: check["state"] for check in page_json(apache)["checks"]}


def other_php_processes() -> bool:
    """Whether the machine runs PHP as Apache's user anyway."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/status") as file:
                text = file.read()
        except OSError:
            continue
        if re.search(r"^Name:\tphp", text) and re.search(rf"^Uid:\t\d+\t{UID_APACHE}\t", text, re.M):
            return True
    return False


def test_no_warning_for_php_fpm_under_its_own_uid(site):
    expected = "warning" if other_php_processes() else "good"
    assert checks(site) == {"php-module": "good", "php-user": expected, "not-checked": "unknown"}
    assert metrics(site).get_sum("socket_handoff_warning", check="php-module") == 0
    assert "mod_php is not loaded" in page_html(site).text and "Not checked" in page_html(site).text


def test_warning_for_mod_php(handoffd_factory, apache_factory):
    daemon = handoffd_factory()
    apache = apache_factory(mpm="prefork", php="mod", keys=daemon.keys, conf=STATUS.format(daemon.path()))
    apache.chat_page(daemon)
    assert request(apache.port, "/chat.php", body=b"x").status == 200
    assert checks(apache)["php-module"] == "warning"
    # Children count together.
    now = settled(apache, "socket_handoff_handoffs_total", 1, result="accepted")
    assert now.get_sum("socket_handoff_warning", check="php-module") == 1
    assert "mod_php is loaded" in page_html(apache).text


def test_warning_for_php_fpm_as_apache(env, site, monkeypatch):
    if other_php_processes():
        pytest.skip("PHP runs as Apache's user on this machine")
    monkeypatch.setattr("apache.UID_FPM", UID_APACHE)
    fpm = PhpFpm(env)
    try:
        wait_for(lambda: checks(site)["php-user"] == "warning", 5)
        assert "PHP runs as Apache's user" in page_html(site).text
    finally:
        fpm.stop()
    wait_for(lambda: checks(site)["php-user"] == "good", 5)


# ---------------------------------------------------------------- load

def test_the_page_under_load(site, in_threads):
    """Handoffs and questions at once: none fails, and in the end the sums are right."""
    def hand_off():
        for _ in range(25):
            assert request(site.port, "/chat.php", body=b"a b").status == 200

    def look():
        for _ in range(25):
            metrics(site)
    in_threads([hand_off] * 4 + [look] * 2)
    settled(site, "socket_handoff_handoffs_total", 100, result="accepted")
    now = settled(site, "daemon_active_streams", 0)
    assert now.get_sum("daemon_handoffs_total") == now.get_sum("socket_handoff_handoffs_total", result="accepted") == 100
    assert now.get_sum("handoffd_streams_total", outcome="done") == 100
