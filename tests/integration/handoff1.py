# SPDX-License-Identifier: Apache-2.0
"""Token v1, the binding and handoff/1 once more, in Python, written from docs/protocol.md and nothing else.

It shares no code with the programs under test, so a mistake in one of them shows. Both ends are here:

    a gate to test the module with            a module to test the gate with

    with Listener(path) as gate:              sender = Sender(path)
        handoff = gate.receive()              pair = tcp_pair()
        handoff.accept()                      reply = sender.handoff(pair.server, b"{}", key=key)
        handoff.client.sendall(...)           print(reply.receive())

Everything can also be made wrong on purpose: encode() takes fields in any order, header values are overridable, and
send() takes any list of descriptors. See Request, encode(), send().

The client socket belongs to whoever sends `accepted`: Handoff.accept() first, then write to Handoff.client.
"""
import array
import base64
import dataclasses
import fcntl
import hashlib
import hmac
import os
import pathlib
import re
import secrets
import socket
import struct
import time

# ---------------------------------------------------------------- token and binding

TOKEN_CONTEXT = b"handoff-token-v1"


def b64url(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def pae(*pieces: bytes) -> bytes:
    """PASETO's pre-authentication encoding: LE64 count, then LE64 length and bytes of each piece."""
    return struct.pack("<Q", len(pieces)) + b"".join(struct.pack("<Q", len(piece)) + piece for piece in pieces)


def digest(data: bytes) -> bytes:
    """SHA-512 of the data's bytes."""
    return hashlib.sha512(data).digest()


def as_bytes(value) -> bytes:
    return value if isinstance(value, bytes) else os.fsencode(value) if isinstance(value, os.PathLike) else str(value).encode()


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of a key ring. paths: the socket paths it may sign for, or ("*",)."""
    kid: str = "test1"
    secret: bytes = dataclasses.field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    state: str = "sign"
    paths: tuple = ("*",)

    def line(self) -> str:
        return " ".join([self.kid, self.state, base64.b64encode(self.secret).decode(), *map(str, self.paths)])


def mac(secret: bytes, kid, exp, binding, socket_path, subject, data_digest: bytes) -> bytes:
    """HMAC-SHA-512 truncated to 32 bytes, which is crypto_auth()."""
    message = pae(TOKEN_CONTEXT, *map(as_bytes, (kid, exp, binding, socket_path, subject)), data_digest)
    return hmac.new(secret, message, hashlib.sha512).digest()[:32]


def make_token(key: Key, binding, socket_path, data: bytes = b"", subject="", exp=None, data_digest=None) -> str:
    """A token; exp is absolute unix seconds (default: 30 s from now)."""
    exp = int(time.time()) + 30 if exp is None else exp
    signed = mac(key.secret, key.kid, exp, binding, socket_path, subject, data_digest or digest(data))
    return f"v1.{key.kid}.{exp}.{b64url(signed)}"


TOKEN_FORM = re.compile(r"v1\.([a-z0-9_-]{1,16})\.(0|[1-9][0-9]{0,9})\.([A-Za-z0-9_-]{43})")


def verify_token(keys, token, binding, socket_path, subject, data_digest: bytes, now=None) -> str:
    """'ok' or the name of the reason, as lib/reason.h has it."""
    now = time.time() if now is None else now
    match = TOKEN_FORM.fullmatch(as_bytes(token).decode("latin-1"))
    if not match:
        return "token-malformed"
    kid, exp, encoded = match.groups()
    received = base64.urlsafe_b64decode(encoded + "=")
    if b64url(received) != encoded:
        return "token-malformed"
    key = next((key for key in keys if key.kid == kid), None)
    if key is None:
        return "token-key-unknown"
    if key.state == "revoked":
        return "token-key-revoked"
    path = as_bytes(socket_path).decode("latin-1")
    if "*" not in key.paths and path not in map(str, key.paths):
        return "token-key-forbidden"
    if not hmac.compare_digest(received, mac(key.secret, kid, exp, binding, socket_path, subject, data_digest)):
        return "token-mac"
    if int(exp) + 5 < now:
        return "token-expired"
    if int(exp) > now + 60:
        return "token-future"
    return "ok"


def make_binding(peer, challenge: bytes = None) -> str:
    """The binding of a peer (address, port[, ...]) as getpeername() returns it, or of a socket with such a peer."""
    if isinstance(peer, socket.socket):
        peer = peer.getpeername()
    return f"v1;{peer[0]};{peer[1]};{b64url(secrets.token_bytes(16) if challenge is None else challenge)}"


# ---------------------------------------------------------------- the request message

MAGIC = b"HANDOFF1"
FLAG_RELAY, FLAG_MEMFD = 0x0001, 0x0002
INLINE_DATA_MAX = 65536
REQUEST_MAX = 196608

(TOKEN, BINDING, SOCKET_PATH, SUBJECT, DATA_DIGEST, METHOD, TARGET, PROTOCOL, CLIENT_ADDRESS, SERVER_NAME, REQUEST_ID,
 STATUS, RESPONSE_HEADERS, DATA) = range(1, 15)
REQUIRED = (BINDING, SOCKET_PATH, DATA_DIGEST, METHOD, TARGET, PROTOCOL, STATUS)
FIELD_NAMES = {TOKEN: "token", BINDING: "binding", SOCKET_PATH: "socket_path", SUBJECT: "subject",
               DATA_DIGEST: "data_digest", METHOD: "method", TARGET: "target", PROTOCOL: "protocol",
               CLIENT_ADDRESS: "client_address", SERVER_NAME: "server_name", REQUEST_ID: "request_id",
               STATUS: "status", RESPONSE_HEADERS: "response_headers", DATA: "data"}
FIELD_LONGEST = {TOKEN: 128, BINDING: 128, SOCKET_PATH: 108, SUBJECT: 256, DATA_DIGEST: 64, METHOD: 32, TARGET: 8192,
                 PROTOCOL: 16, CLIENT_ADDRESS: 64, SERVER_NAME: 256, REQUEST_ID: 64, STATUS: 2,
                 RESPONSE_HEADERS: 65536, DATA: INLINE_DATA_MAX}


class WireError(Exception):
    """The bytes are not handoff/1."""


def encode(fields, flags: int = 0, *, magic: bytes = MAGIC, length=None, count=None, tail: bytes = b"") -> bytes:
    """A request message from [(type, bytes), ...] in the order given, right or wrong. length and count override the
    header's; tail is appended after the fields (and counted in the length)."""
    body = b"".join(struct.pack("<HHI", kind, 0, len(value)) + value for kind, value in fields) + tail
    return magic + struct.pack("<IHH", 16 + len(body) if length is None else length,
                               len(fields) if count is None else count, flags) + body


def decode(message: bytes) -> "Request":
    """Take a message apart as strictly as docs/protocol.md wants it; WireError when it is not exactly the format."""
    if len(message) < 16 or message[:8] != MAGIC:
        raise WireError("no handoff/1 header")
    length, count, flags = struct.unpack_from("<IHH", message, 8)
    if length != len(message) or length > REQUEST_MAX:
        raise WireError(f"length {length}, message of {len(message)}")
    if flags & ~(FLAG_RELAY | FLAG_MEMFD):
        raise WireError(f"flags {flags:#x}")
    position, last, fields = 16, 0, {}
    for _ in range(count):
        if position + 8 > length:
            raise WireError("field header cut")
        kind, zero, size = struct.unpack_from("<HHI", message, position)
        position += 8
        if kind not in FIELD_NAMES or zero != 0 or kind <= last or size > FIELD_LONGEST[kind] or position + size > length:
            raise WireError(f"field {kind} of {size} bytes after field {last}")
        fields[kind] = message[position:position + size]
        position, last = position + size, kind
    if position != length:
        raise WireError("bytes left over")
    missing = [FIELD_NAMES[kind] for kind in REQUIRED if kind not in fields]
    if missing:
        raise WireError("missing " + ", ".join(missing))
    if (DATA in fields) == bool(flags & FLAG_MEMFD):
        raise WireError("data both inline and in a memfd, or in neither")
    if len(fields[STATUS]) != 2 or not 100 <= struct.unpack("<H", fields[STATUS])[0] <= 599:
        raise WireError("status")
    if len(fields[DATA_DIGEST]) != 64:
        raise WireError("digest")
    return Request(flags, fields)


@dataclasses.dataclass
class Request:
    """A request taken apart: the fields by type as bytes, and by name as attributes (None when absent)."""
    flags: int
    fields: dict

    def __getattr__(self, name):
        for kind, field_name in FIELD_NAMES.items():
            if field_name == name:
                value = self.fields.get(kind)
                return struct.unpack("<H", value)[0] if kind == STATUS and value is not None else value
        raise AttributeError(name)

    def headers(self):
        """response_headers as [(name, value), ...]."""
        lines = (self.response_headers or b"").decode("latin-1").split("\r\n")
        return [tuple(line.split(": ", 1)) for line in lines if line]


def make_fields(client: socket.socket, socket_path, data: bytes = b"", *, key: Key = None, token=None, binding=None,
                subject=None, exp=None, method="GET", target="/", protocol="HTTP/1.1", client_address="127.0.0.1",
                server_name="localhost", request_id="test", status=200, headers=(), data_digest=None,
                memfd: bool = False) -> list:
    """The fields of a right request for this client socket, in their order: change them, then encode(). With key it
    is signed; token overrides that."""
    binding = make_binding(client) if binding is None else binding
    data_digest = digest(data) if data_digest is None else data_digest
    if token is None and key is not None:
        token = make_token(key, binding, socket_path, subject=subject or "", exp=exp, data_digest=data_digest)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    values = [(TOKEN, token), (BINDING, binding), (SOCKET_PATH, socket_path), (SUBJECT, subject),
              (DATA_DIGEST, data_digest), (METHOD, method), (TARGET, target), (PROTOCOL, protocol),
              (CLIENT_ADDRESS, client_address), (SERVER_NAME, server_name), (REQUEST_ID, request_id),
              (STATUS, struct.pack("<H", status)), (RESPONSE_HEADERS, lines or None), (DATA, None if memfd else data)]
    return [(kind, as_bytes(value)) for kind, value in values if value is not None]


# ---------------------------------------------------------------- descriptors

def memfd(data: bytes, sealed: bool = True) -> int:
    """A memfd holding data, sealed against everything (or not), as the module makes them. The caller closes it."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create("handoff-test", flags | 0x8)  # MFD_NOEXEC_SEAL
    except OSError:
        fd = os.memfd_create("handoff-test", flags)
    with open(os.dup(fd), "wb") as file:
        file.write(data)
    if sealed:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS,
                    fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return fd


@dataclasses.dataclass
class TcpPair:
    """A TCP connection over loopback: `client` is the browser's end, `server` the one a handoff passes on."""
    client: socket.socket
    server: socket.socket

    def close(self):
        self.client.close()
        self.server.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def tcp_pair(family=socket.AF_INET) -> TcpPair:
    with socket.socket(family) as listener:
        listener.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        listener.listen(1)
        client = socket.create_connection(listener.getsockname()[:2], 5)
        server, _ = listener.accept()
        server.setblocking(False)  # as httpd's are
        return TcpPair(client, server)


def send(sock: socket.socket, message: bytes, fds=(), flags: int = 0) -> int:
    """One message with these descriptors (sockets or numbers), which stay the caller's."""
    numbers = array.array("i", [fd if isinstance(fd, int) else fd.fileno() for fd in fds])
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers.tobytes())] if numbers else []
    return sock.sendmsg([message], ancillary, flags | socket.MSG_NOSIGNAL)


def receive(sock: socket.socket, size: int = REQUEST_MAX + 1, max_fds: int = 16):
    """(message, [descriptor numbers]); message b"" is end of file. The descriptors are CLOEXEC and the caller's."""
    message, fds, flags, _ = socket.recv_fds(sock, size, max_fds, socket.MSG_CMSG_CLOEXEC)
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        for fd in fds:
            os.close(fd)
        raise WireError(f"message cut, flags {flags:#x}")
    return message, fds


def credentials(sock: socket.socket):
    """(pid, uid, gid) of the peer of a unix socket."""
    return struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))


# ---------------------------------------------------------------- the reply

REPLY = struct.Struct("<BBHHHIIQ")
ACCEPTED, REFUSED = 1, 2


def reason_names() -> list:
    """The names of lib/reason.h in their order: the number in a reply is the index."""
    header = pathlib.Path(__file__).resolve().parents[2] / "lib" / "reason.h"
    return re.findall(r'^\s*X\(REASON_\w+,\s*"([a-z-]+)"', header.read_text(), re.M)


@dataclasses.dataclass
class Reply:
    kind: int
    status: int
    reason: str
    retry_after: int = 0
    stream_id: int = 0

    @property
    def accepted(self) -> bool:
        return self.kind == ACCEPTED

    def encode(self) -> bytes:
        number = reason_names().index(self.reason) if isinstance(self.reason, str) else self.reason
        return REPLY.pack(1, self.kind, self.status, number, 0, self.retry_after, 0, self.stream_id)

    @classmethod
    def decode(cls, message: bytes) -> "Reply":
        if len(message) != REPLY.size:
            raise WireError(f"reply of {len(message)} bytes")
        version, kind, status, number, zero, retry_after, zero2, stream_id = REPLY.unpack(message)
        if version != 1 or kind not in (ACCEPTED, REFUSED) or zero or zero2 or number >= len(reason_names()):
            raise WireError(f"reply {message.hex()}")
        return cls(kind, status, reason_names()[number], retry_after, stream_id)


class ReplySocket:
    """Our end of the reply socketpair, as the module holds it."""

    def __init__(self, sock: socket.socket):
        self.sock = sock

    def receive(self, timeout: float = 15):
        """The Reply; None at end of file without one (nobody holds the client any more). TimeoutError."""
        self.sock.settimeout(timeout)
        try:
            message = self.sock.recv(256)
        except ConnectionResetError:
            return None
        return Reply.decode(message) if message else None

    def withdraw(self):
        """Stop waiting as the module does: shut down, drain once. The Reply that was already there, or None."""
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.setblocking(False)
        try:
            message = self.sock.recv(256)
        except (BlockingIOError, ConnectionResetError):
            message = b""
        return Reply.decode(message) if message else None

    def close(self):
        self.sock.close()


# ---------------------------------------------------------------- module's side

class Sender:
    """A module: one connection to a gate. connect=False for a socket of your own (set .sock)."""

    def __init__(self, path, timeout: float = 5):
        self.path = str(path)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(timeout)
        try:
            self.sock.connect(self.path)
        except OSError:
            self.sock.close()
            raise

    def send_message(self, message: bytes, fds) -> None:
        send(self.sock, message, fds)

    def send_fields(self, fields, client, flags: int = 0, extra=()) -> ReplySocket:
        """Encode and send fields with the client socket, a fresh reply socket and extra descriptors."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            send(self.sock, encode(fields, flags), [client, theirs, *extra])
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return ReplySocket(ours)

    def handoff(self, client: socket.socket, data: bytes = b"", *, memfd_always: bool = False, **how) -> ReplySocket:
        """A right handoff of this client socket; how: see make_fields(). Data over 64 KiB goes in a memfd. The
        caller's copy of the client stays open: close it when the daemon is to be the only holder."""
        large = memfd_always or len(data) > INLINE_DATA_MAX
        fields = make_fields(client, how.pop("socket_path", self.path), data, memfd=large, **how)
        data_fd = memfd(data) if large else -1
        try:
            return self.send_fields(fields, client, FLAG_MEMFD if large else 0, [data_fd] if large else [])
        finally:
            if large:
                os.close(data_fd)

    def closed(self, timeout: float = 5) -> bool:
        """Whether the gate closes (or has closed) this connection within the time."""
        self.sock.settimeout(timeout)
        try:
            return self.sock.recv(1) == b""
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# ---------------------------------------------------------------- gate's side

@dataclasses.dataclass
class Handoff:
    """A handoff that arrived at our gate: `request` (see Request), `client` and `reply_socket`, and all the data."""
    request: Request
    client: socket.socket
    reply_socket: socket.socket
    data: bytes

    def accept(self, stream_id: int = 1) -> None:
        """From here on the client socket may be written to; BrokenPipeError when the module has given up."""
        self.reply_socket.send(Reply(ACCEPTED, 200, "ok", 0, stream_id).encode(), socket.MSG_NOSIGNAL)

    def refuse(self, status: int = 503, reason: str = "no-streamer", retry_after: int = 0) -> None:
        self.reply_socket.send(Reply(REFUSED, status, reason, retry_after).encode(), socket.MSG_NOSIGNAL)

    def answer(self, body: bytes = b"handed off\n", status: str = "200 OK", extra: str = "") -> None:
        """Write a whole response with the headers that travelled, and close."""
        head = f"HTTP/1.1 {status}\r\n" + (self.request.response_headers or b"").decode("latin-1") + extra + \
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.client.setblocking(True)
        self.client.sendall(head.encode("latin-1") + body)
        self.close()

    def close(self) -> None:
        """Close both, as a gate that crashes would."""
        self.client.close()
        self.reply_socket.close()


class Listener:
    """A gate: a SOCK_SEQPACKET listener at path. SO_PEERCRED is that of this process at listen()."""

    def __init__(self, path, backlog: int = 64, mode: int = 0o666):
        self.path = str(path)
        self.connections = []
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.bind(self.path)
        os.chmod(self.path, mode)
        self.sock.listen(backlog)

    def accept(self, timeout: float = 15) -> socket.socket:
        self.sock.settimeout(timeout)
        connection, _ = self.sock.accept()
        connection.settimeout(timeout)
        self.connections.append(connection)
        return connection

    def receive(self, timeout: float = 15) -> Handoff:
        """The next handoff on any connection, new ones accepted. EOF on a connection forgets it."""
        deadline = time.monotonic() + timeout
        import select
        while True:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.sock, *self.connections], [], [], max(left, 0))
            if not ready:
                raise TimeoutError("no handoff came")
            for sock in ready:
                if sock is self.sock:
                    self.accept()
                    continue
                message, fds = receive(sock)
                if message:
                    return self.take(message, fds)
                sock.close()
                self.connections.remove(sock)

    @staticmethod
    def take(message: bytes, fds) -> Handoff:
        """Check a message and its descriptors, and make a Handoff of them."""
        try:
            request = decode(message)
            expected = 3 if request.flags & FLAG_MEMFD else 2
            if len(fds) != expected:
                raise WireError(f"{len(fds)} descriptors, {expected} expected")
            data = request.data
            if request.flags & FLAG_MEMFD:
                seals = fcntl.fcntl(fds[2], fcntl.F_GET_SEALS)
                if seals & 0xF != 0xF:
                    raise WireError(f"memfd not sealed: {seals:#x}")
                data = os.pread(fds[2], os.fstat(fds[2]).st_size, 0)
            if digest(data) != request.data_digest:
                raise WireError("data is not what the digest says")
        except Exception:
            for fd in fds:
                os.close(fd)
            raise
        if len(fds) == 3:
            os.close(fds[2])
        client, reply = socket.socket(fileno=fds[0]), socket.socket(fileno=fds[1])
        if client.family not in (socket.AF_INET, socket.AF_INET6) and not request.flags & FLAG_RELAY:
            raise WireError("client is not TCP")
        return Handoff(request, client, reply, data)

    def close(self) -> None:
        for sock in [self.sock, *self.connections]:
            sock.close()
        pathlib.Path(self.path).unlink(missing_ok=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class RawListener:
    """What the original module talks to: a listener that gets the bare data and the client socket. Its present version
    wants SOCK_SEQPACKET, early ones SOCK_STREAM."""

    def __init__(self, path, kind=socket.SOCK_SEQPACKET, mode: int = 0o666):
        self.path = str(path)
        self.sock = socket.socket(socket.AF_UNIX, kind)
        self.sock.bind(self.path)
        os.chmod(self.path, mode)
        self.sock.listen(64)

    def receive(self, timeout: float = 15):
        """(data, client socket); data b"\\0" means there was none."""
        self.sock.settimeout(timeout)
        connection, _ = self.sock.accept()
        with connection:
            connection.settimeout(timeout)
            data, fds = receive(connection, 1 << 20)
            while piece := connection.recv(1 << 20):
                data += piece
        if len(fds) != 1:
            raise WireError(f"{len(fds)} descriptors, 1 expected")
        return data, socket.socket(fileno=fds[0])

    def close(self) -> None:
        self.sock.close()
        pathlib.Path(self.path).unlink(missing_ok=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
