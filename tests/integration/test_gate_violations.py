# SPDX-License-Identifier: Apache-2.0
"""The gate alone, spoken to as a module speaks: every violation and refusal of docs/protocol.md, section 3. After each the
same gate process serves a good handoff, and no descriptor has stayed open.
"""
import array
import os
import socket
import struct
import time

import pytest

import env as harness
import handoff1
from handoff1 import Sender, encode, make_fields, memfd, tcp_pair

UID_TEST = os.geteuid()
UID_OTHER = 64299


class Gate:
    """A running handoffd and what its gate looks like between tests."""

    def __init__(self, environment):
        keys = harness.KeyRing(environment, handoff1.Key(), handoff1.Key(kid="old", state="revoked"),
                               handoff1.Key(kid="narrow", paths=("/run/elsewhere.sock",)), handoff1.Key(kid="second"))
        self.daemon = harness.Handoffd(
            environment, backends={"demo": {"type": "demo", "delay": 1}},
            listens={"chat": {"backend": "demo"}, "other": {"backend": "demo"}}, keys=keys,
            options={"key-file": keys.file(harness.UID_GATE)}, allow_peer=(UID_TEST,))
        self.keys = {key.kid: key for key in keys.keys}
        self.key = keys.key
        self.path = self.daemon.path("chat")
        self.other_path = self.daemon.path("other")
        self.pid = self.daemon.pid("gate")
        self.serve()
        self.daemon.wait_introduced()
        self.fds = self.settled_fds()

    def sender(self) -> Sender:
        return Sender(self.path)

    def serve(self) -> None:
        """One right handoff from its beginning to its end."""
        with self.sender() as sender, tcp_pair() as pair:
            reply = sender.handoff(pair.server, b'{"prompt":"one two"}', key=self.key).receive()
            assert reply is not None and reply.accepted, reply
            pair.server.close()
            pair.client.settimeout(5)
            answer = b""
            while piece := pair.client.recv(65536):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and b"[DONE]" in answer, answer

    def count_fds(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def settled_fds(self) -> int:
        """The number of descriptors once it does not change any more."""
        last = self.count_fds()
        for _ in range(100):
            time.sleep(0.02)
            now = self.count_fds()
            if now == last:
                return now
            last = now
        raise AssertionError("the number of descriptors never settles")

    def check(self) -> None:
        """Still the same process, serving, with nothing left over."""
        self.serve()
        assert self.daemon.pid("gate") == self.pid
        harness.wait_for(lambda: self.count_fds() <= self.fds, 3,
                         f"{self.fds} descriptors, not {harness.open_fds(self.pid)}")


@pytest.fixture(scope="module", name="gate")
def fixture_gate(env):
    gate = Gate(env)
    yield gate
    gate.daemon.stop()


@pytest.fixture(autouse=True)
def unharmed(gate):
    yield
    gate.check()


def count(gate, reason: str) -> int:
    return gate.daemon.counters("gate").get(f"daemon_handoff_errors_total/{reason}", 0)


def expect_closed(gate, reason: str, send, closed=True) -> None:
    """send(sender, pair) breaks the rules: the connection is closed, nothing is answered, it is counted and logged."""
    before = count(gate, reason)
    since = gate.daemon.log.position()
    with gate.sender() as sender, tcp_pair() as pair:
        replies = send(sender, pair)
        assert sender.closed(5 if closed else 0.3) == closed, "the gate keeps the connection"
        if replies is not None:
            assert replies.receive() is None, "a violation was answered"
    assert count(gate, reason) == before + 1
    gate.daemon.log.wait(f"event=refused reason={reason} ", since=since)


def send_parts(sender, message: bytes, fds) -> handoff1.ReplySocket:
    """message with fds, in which the string "reply" stands for a fresh reply socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        sender.send_message(message, [theirs if fd == "reply" else fd for fd in fds])
    return handoff1.ReplySocket(ours)


def right_fields(gate, pair, data=b'{"prompt":"x"}', **how):
    return make_fields(pair.server, gate.path, data, key=gate.key, **how)


# ---------------------------------------------------------------- the form of the message

def drop(kind):
    return lambda fields: [field for field in fields if field[0] != kind]


def change(kind, value):
    return lambda fields: [(number, value if number == kind else old) for number, old in fields]


def raw(change_bytes):
    """A test of the encoded message instead of the fields."""
    change_bytes.is_raw = True
    return change_bytes


FORMS = {
    "one byte": raw(lambda message: message[:1]),
    "header only": raw(lambda message: message[:16]),
    "cut by one": raw(lambda message: message[:-1]),
    "one too long": raw(lambda message: message + b"x"),
    "cut within a field header": raw(lambda message: message[:20]),
    "other magic": raw(lambda message: b"HANDOFF2" + message[8:]),
    "total length less": raw(lambda message: message[:8] + struct.pack("<I", len(message) - 1) + message[12:]),
    "total length more": raw(lambda message: message[:8] + struct.pack("<I", len(message) + 1) + message[12:]),
    "fewer fields counted": raw(lambda message: message[:12] + struct.pack("<H", 2) + message[14:]),
    "more fields counted": raw(lambda message: message[:12] + struct.pack("<H", 65535) + message[14:]),
    "unknown flag": raw(lambda message: message[:14] + struct.pack("<H", 0x8000) + message[16:]),
    "reserved bytes set": raw(lambda message: message[:18] + b"\1\0" + message[20:]),
    "field longer than the message": raw(lambda message: message[:20] + struct.pack("<I", 0xFFFFFFFF) + message[24:]),
    "unknown type": lambda fields: fields + [(15, b"x")],
    "type zero": lambda fields: [(0, b"x")] + fields,
    "duplicate field": lambda fields: fields[:1] + fields,
    "duplicate data": lambda fields: fields + [fields[-1]],
    "descending": lambda fields: list(reversed(fields)),
    "two exchanged": lambda fields: fields[:3] + [fields[4], fields[3]] + fields[5:],
    "no binding": drop(handoff1.BINDING),
    "empty binding": change(handoff1.BINDING, b""),
    "no socket path": drop(handoff1.SOCKET_PATH),
    "no digest": drop(handoff1.DATA_DIGEST),
    "short digest": change(handoff1.DATA_DIGEST, b"x" * 63),
    "no method": drop(handoff1.METHOD),
    "no target": drop(handoff1.TARGET),
    "no protocol": drop(handoff1.PROTOCOL),
    "no status": drop(handoff1.STATUS),
    "status 99": change(handoff1.STATUS, struct.pack("<H", 99)),
    "status 600": change(handoff1.STATUS, struct.pack("<H", 600)),
    "no data at all": drop(handoff1.DATA),
    "token of 129 bytes": change(handoff1.TOKEN, b"x" * 129),
    "method of 33 bytes": change(handoff1.METHOD, b"x" * 33),
    "target of 8193 bytes": change(handoff1.TARGET, b"/" * 8193),
    "data of 65537 bytes": change(handoff1.DATA, b"x" * 65537),
    "header line without colon": lambda fields: fields[:-1] + [(handoff1.RESPONSE_HEADERS, b"x\r\n"), fields[-1]],
    "header with bare CR": lambda fields: fields[:-1] + [(handoff1.RESPONSE_HEADERS, b"A: b\rc\r\n"), fields[-1]],
    "framing header": lambda fields: fields[:-1] + [(handoff1.RESPONSE_HEADERS, b"Content-Length: 3\r\n"), fields[-1]],
    "200,000 bytes of garbage": raw(lambda message: b"\xa5" * 200000),
    "a message of the largest size and one": raw(lambda message: message + b"\0" * (196609 - len(message))),
}


@pytest.mark.parametrize("name", FORMS)
def test_form(gate, name):
    def send(sender, pair):
        sender.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        fields, alter = right_fields(gate, pair), FORMS[name]
        message = alter(encode(fields)) if getattr(alter, "is_raw", False) else encode(alter(fields))
        return send_parts(sender, message, [pair.server, "reply"])
    expect_closed(gate, "message-malformed", send)


def test_garbage_without_descriptors(gate):
    expect_closed(gate, "message-malformed", lambda sender, pair: sender.send_message(os.urandom(200000), []))


def test_memfd_flag_with_inline_data(gate):
    def send(sender, pair):
        data = memfd(b"x" * 70000)
        try:
            return send_parts(sender, encode(right_fields(gate, pair), handoff1.FLAG_MEMFD),
                              [pair.server, "reply", data])
        finally:
            os.close(data)
    expect_closed(gate, "message-malformed", send)


# ---------------------------------------------------------------- the descriptors

def test_no_descriptors(gate):
    expect_closed(gate, "descriptors", lambda sender, pair: sender.send_message(encode(right_fields(gate, pair)), []))


def test_one_descriptor(gate):
    expect_closed(gate, "descriptors",
                  lambda sender, pair: sender.send_message(encode(right_fields(gate, pair)), [pair.server]))


def test_three_descriptors_without_memfd(gate):
    expect_closed(gate, "descriptors", lambda sender, pair: send_parts(
        sender, encode(right_fields(gate, pair)), [pair.server, "reply", pair.server]))


@pytest.mark.parametrize("number", [4, 5, 253])
def test_too_many_descriptors(gate, number):
    expect_closed(gate, "descriptors", lambda sender, pair: send_parts(
        sender, encode(right_fields(gate, pair)), [pair.server, "reply"] + [0] * (number - 2)))


def test_two_control_messages(gate):
    def send(sender, pair):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            one = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd.fileno()] * 3).tobytes())
                   for fd in (pair.server, theirs)]
            sender.sock.sendmsg([encode(right_fields(gate, pair))], one)
        return handoff1.ReplySocket(ours)
    expect_closed(gate, "descriptors", send)


def test_descriptors_without_bytes(gate):
    expect_closed(gate, "descriptors", lambda sender, pair: sender.send_message(b"", [pair.server, pair.client]))


def expect_client(gate, reason, make):
    """make() returns what is sent as the client socket, and what is to be closed after that."""
    def send(sender, pair):
        client, *others = make()
        try:
            return send_parts(sender, encode(right_fields(gate, pair)), [client, "reply"])
        finally:
            for thing in (client, *others):
                os.close(thing) if isinstance(thing, int) else thing.close()
    expect_closed(gate, reason, send)


def listening_socket():
    sock = socket.create_server(("127.0.0.1", 0))
    return (sock,)


NOT_CLIENTS = {
    "file": lambda: (os.open("/dev/null", os.O_RDWR),),
    "directory": lambda: (os.open("/", os.O_RDONLY),),
    "pipe": os.pipe,
    "listening socket": listening_socket,
    "UDP socket": lambda: (socket.socket(socket.AF_INET, socket.SOCK_DGRAM),),
    "unix stream socket": lambda: socket.socketpair(),
    "unix seqpacket socket": lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET),
    "memfd": lambda: (memfd(b"x"),),
}


@pytest.mark.parametrize("name", NOT_CLIENTS)
def test_not_a_client_socket(gate, name):
    expect_client(gate, "client-socket", NOT_CLIENTS[name])


NOT_REPLY_SOCKETS = {
    "file": lambda: (os.open("/dev/null", os.O_RDWR),),
    "unix stream socket": lambda: socket.socketpair(),
    "unix datagram socket": lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM),
    "unconnected": lambda: (socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET),),
    "TCP socket": lambda: (lambda pair: (pair.client, pair.server))(tcp_pair()),
}


@pytest.mark.parametrize("name", NOT_REPLY_SOCKETS)
def test_not_a_reply_socket(gate, name):
    def send(sender, pair):
        reply, *others = NOT_REPLY_SOCKETS[name]()
        sender.send_message(encode(right_fields(gate, pair)), [pair.server, reply])
        for thing in (reply, *others):
            os.close(thing) if isinstance(thing, int) else thing.close()
    expect_closed(gate, "descriptors", send)


def expect_memfd(gate, make):
    def send(sender, pair):
        data = make()
        fields = right_fields(gate, pair, b"x" * 70000, memfd=True)
        try:
            return send_parts(sender, encode(fields, handoff1.FLAG_MEMFD), [pair.server, "reply", data])
        finally:
            os.close(data)
    expect_closed(gate, "memfd", send)


def test_unsealed_memfd(gate):
    expect_memfd(gate, lambda: memfd(b"x" * 70000, sealed=False))


def test_partly_sealed_memfd(gate):
    def make():
        import fcntl
        data = memfd(b"x" * 70000, sealed=False)
        fcntl.fcntl(data, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
        return data
    expect_memfd(gate, make)


def test_empty_memfd(gate):
    expect_memfd(gate, lambda: memfd(b""))


def test_file_as_memfd(gate):
    expect_memfd(gate, lambda: os.open("/proc/self/exe", os.O_RDONLY))


def test_other_network_namespace(gate):
    """A client socket of another namespace may have the same addresses as one of ours."""
    if os.geteuid() != 0:
        pytest.skip("needs root to make a network namespace")
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            ours.close()
            unshare_net()
            loopback_up()
            pair = tcp_pair()
            socket.send_fds(theirs, [repr(pair.server.getpeername()).encode()], [pair.server.fileno()])
            theirs.recv(1)
        except Exception as error:  # it must not get back into the test run
            theirs.send(b"failed: " + repr(error).encode())
        finally:
            os._exit(0)
    theirs.close()
    ours.settimeout(10)
    try:
        text, fds, _, _ = socket.recv_fds(ours, 1000, 1)
        if not fds:
            pytest.skip(f"no network namespace here: {text.decode()}")
        foreign = socket.socket(fileno=fds[0])

        def send(sender, _pair):
            fields = make_fields(foreign, gate.path, b'{"prompt":"x"}', key=gate.key)
            return send_parts(sender, encode(fields), [foreign, "reply"])
        expect_closed(gate, "client-netns", send)
        foreign.close()
    finally:
        ours.close()
        os.waitpid(child, 0)


def unshare_net():
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def loopback_up():
    import fcntl
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14x", b"lo", 0x1 | 0x40)  # IFF_UP, IFF_RUNNING
        fcntl.ioctl(sock, 0x8914, request)  # SIOCSIFFLAGS


# ---------------------------------------------------------------- refusals: answered, and the connection stays

def expect_refused(gate, reason, status=403, key=None, path=None, client=None, flags=0, **how):
    before = count(gate, reason)
    with Sender(path or gate.path) as sender, tcp_pair() as pair:
        sent = client or pair.server
        fields = make_fields(pair.server, how.pop("socket_path", sender.path), b'{"prompt":"x"}',
                             key=key or gate.key, **how)
        reply = sender.send_fields(fields, sent, flags).receive()
        assert reply is not None and not reply.accepted, reply
        assert (reply.status, reply.reason) == (status, reason)
        # Nobody has written to the client.
        pair.client.setblocking(False)
        with pytest.raises(BlockingIOError):
            pair.client.recv(1)
        # The connection stays: a right one goes through on it.
        with tcp_pair() as good:
            reply = sender.handoff(good.server, b'{"prompt":"x"}', key=gate.key).receive()
            assert reply is not None and reply.accepted, reply
    assert count(gate, reason) == before + 1


def flip(token: str) -> str:
    """Another MAC, still canonical."""
    body, mac = token.rsplit(".", 1)
    return f"{body}.{'B' if mac[0] == 'A' else 'A'}{mac[1:]}"


def test_token_missing(gate):
    expect_refused(gate, "token-missing", token="")


@pytest.mark.parametrize("token", ["x", "v1.test1.9999999999", "v1.test1.09.AAAA", "v1.TEST.1.AAAA", "v1...", "v1" * 60])
def test_token_malformed(gate, token):
    expect_refused(gate, "token-malformed", token=token)


def test_token_version(gate):
    expect_refused(gate, "token-version", token=f"v2.test1.{int(time.time())}.{'A' * 43}")


def test_token_key_unknown(gate):
    expect_refused(gate, "token-key-unknown", key=handoff1.Key(kid="nobody"))


def test_token_key_revoked(gate):
    expect_refused(gate, "token-key-revoked", key=gate.keys["old"])


def test_token_key_forbidden(gate):
    expect_refused(gate, "token-key-forbidden", key=gate.keys["narrow"])


def test_token_of_another_secret(gate):
    expect_refused(gate, "token-mac", key=handoff1.Key())


def test_token_flipped(gate):
    with tcp_pair() as pair:
        fields = dict(right_fields(gate, pair))
    expect_refused(gate, "token-mac", token=flip(fields[handoff1.TOKEN].decode()))


def test_token_expired(gate):
    expect_refused(gate, "token-expired", exp=int(time.time()) - 10)


def test_token_future(gate):
    expect_refused(gate, "token-future", exp=int(time.time()) + 120)


@pytest.mark.parametrize("field, value", [("subject", "someone-else"), ("data_digest", b"x" * 64)])
def test_signed_fields_cannot_be_changed(gate, field, value):
    with tcp_pair() as pair:
        binding = handoff1.make_binding(pair.server)
        token = handoff1.make_token(gate.key, binding, gate.path, b'{"prompt":"x"}')
        fields = make_fields(pair.server, gate.path, b'{"prompt":"x"}', token=token, binding=binding, **{field: value})
        with gate.sender() as sender:
            reply = sender.send_fields(fields, pair.server).receive()
    assert (reply.status, reply.reason) == (403, "token-mac")


def test_other_listener(gate):
    """A token for one listener, handed in at another."""
    expect_refused(gate, "listener-mismatch", path=gate.path, socket_path=gate.other_path)


def test_binding_of_another_peer(gate):
    with tcp_pair() as pair:
        expect_refused(gate, "binding-peer", binding=handoff1.make_binding(pair.server))


@pytest.mark.parametrize("binding", ["x", "v1;127.0.0.1;1;short", "v2;127.0.0.1;1;AAAAAAAAAAAAAAAAAAAAAA",
                                     "v1;127.0.0.01;1;AAAAAAAAAAAAAAAAAAAAAA"])
def test_binding_malformed(gate, binding):
    expect_refused(gate, "binding-malformed", binding=binding)


def test_relay_is_not_offered(gate):
    expect_refused(gate, "relay-forbidden", flags=handoff1.FLAG_RELAY)


def test_client_gone(gate):
    """A client that has reset its connection is dropped, without harm to the connection of the module."""
    before = count(gate, "client-gone")
    with gate.sender() as sender, tcp_pair() as pair:
        fields = make_fields(pair.server, gate.path, b'{"prompt":"x"}', key=gate.key)
        pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        pair.client.close()
        time.sleep(0.05)
        reply = sender.send_fields(fields, pair.server).receive()
        assert reply is not None and reply.reason == "client-gone"
        assert not sender.closed(0.2)
    assert count(gate, "client-gone") == before + 1


def test_reply_socket_nobody_reads(gate):
    """A module that has given up: the gate's refusal fails silently."""
    with gate.sender() as sender, tcp_pair() as pair:
        fields = make_fields(pair.server, gate.path, b"{}", token="x")
        sender.send_fields(fields, pair.server).close()
        assert not sender.closed(0.2)


# ---------------------------------------------------------------- right ones

def test_data_in_memfd(gate):
    with gate.sender() as sender, tcp_pair() as pair:
        data = b'{"prompt":"' + b"a " * 40000 + b'"}'
        assert sender.handoff(pair.server, data, key=gate.key).receive().accepted


def test_ipv6(gate):
    with gate.sender() as sender, tcp_pair(socket.AF_INET6) as pair:
        assert sender.handoff(pair.server, b'{"prompt":"x"}', key=gate.key).receive().accepted


def test_many_on_one_connection(gate):
    """Pipelined: a module's threads need not take turns with the gate."""
    with gate.sender() as sender:
        pairs = [tcp_pair() for _ in range(50)]
        replies = [sender.handoff(pair.server, b'{"prompt":"x"}', key=gate.key) for pair in pairs]
        ids = {reply.receive().stream_id for reply in replies}
        assert len(ids) == 50
        for pair in pairs:
            pair.close()


# ---------------------------------------------------------------- who may connect

def connect_as(uid: int, path: str) -> bool:
    """Whether the gate keeps a connection of this uid open."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        verdict = b"?"
        try:
            os.setgroups([harness.UID_APACHE])  # the file's group, so that only SO_PEERCRED decides
            os.setgid(uid)
            os.setuid(uid)
            with Sender(path) as sender:
                verdict = b"n" if sender.closed(3) else b"y"
        except OSError as error:
            verdict = str(error).encode()
        finally:
            os.write(writer, verdict)
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        verdict = stream.read()
    os.waitpid(child, 0)
    assert verdict in (b"y", b"n"), verdict
    return verdict == b"y"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become other users")
@pytest.mark.parametrize("uid", [UID_OTHER, 65534])
def test_other_uid(gate, uid):
    before = count(gate, "peer-forbidden")
    assert not connect_as(uid, gate.path)
    assert count(gate, "peer-forbidden") == before + 1


def test_idle_connections_block_nobody(gate):
    idle = [gate.sender() for _ in range(200)]
    started = time.monotonic()
    gate.serve()
    assert time.monotonic() - started < 4
    for sender in idle:
        sender.close()


def test_slots_come_back(env):
    """More idle connections than slots: the longest silent make room."""
    keys = harness.KeyRing(env)
    with harness.Handoffd(env, keys=keys, options={"key-file": keys.file(harness.UID_GATE)}, allow_peer=(UID_TEST,),
                          listens={"chat": {"backend": "demo", "max-connections": 8}}) as daemon:
        idle = [Sender(daemon.path()) for _ in range(8)]
        time.sleep(0.7)
        for _ in range(3):
            with Sender(daemon.path()) as sender, tcp_pair() as pair:
                assert sender.handoff(pair.server, b'{"prompt":"x"}', key=keys.key).receive().accepted
        assert any(sender.closed(0.2) for sender in idle)
        for sender in idle:
            sender.close()
