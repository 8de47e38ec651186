# SPDX-License-Identifier: Apache-2.0
"""Upstreams: the real npm mock-llm, a scripted one for faults, and TLS in front of either."""
import fcntl
import functools
import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import threading
import time

NPM = pathlib.Path(__file__).parent / "npm"


@functools.cache
def npm_install(build: pathlib.Path):
    """Install tests/integration/npm into BUILD/npm once, for BUILD/sanitize too; one attempt a run. Returns the folder, or the
    reason why there is none."""
    target = (build.parent if build.name == "sanitize" else build) / "npm"
    if not shutil.which("npm") or not shutil.which("node"):
        return "npm or node is not installed"
    target.mkdir(parents=True, exist_ok=True)
    others = os.open(target, os.O_RDONLY)  # another run may be at it, as another user
    try:
        fcntl.flock(others, fcntl.LOCK_EX)
        return _npm_install(target)
    finally:
        os.close(others)


def _npm_install(target: pathlib.Path):
    wanted, installed = (NPM / "package-lock.json").read_text(), target / ".installed"
    if installed.exists() and installed.read_text() == wanted:
        return target
    for name in ("package.json", "package-lock.json"):
        shutil.copy(NPM / name, target / name)
    done = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=target,
                          capture_output=True, text=True)
    if done.returncode != 0:
        return "npm ci failed: " + done.stderr.strip()[-300:]
    installed.write_text(wanted)
    return target


class MockLLM:
    """`mock-llm`, an OpenAI-compatible service that is not ours: it echoes the last message, streaming when asked.
    rules: further rules, the last that matches wins, each (match, status, content) with match a JMESPath expression
    over the request; streaming: e.g. {"chunkSize": 5, "chunkIntervalMs": 20}."""

    def __init__(self, env, rules=(), streaming=None):
        folder = npm_install(env.build)
        if isinstance(folder, str):
            import pytest
            pytest.skip(folder)
        self.port = env.port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        path = "/v1/chat/completions"
        # The whole message, because mock-llm puts a string into the template without escaping it.
        echo = '{"id":"chatcmpl-1","object":"chat.completion","model":"{{jmes request body.model}}","choices":' \
               '[{"message":{{jmes request body.messages[-1]}},"finish_reason":"stop"}]}'
        config = {"streaming": streaming or {"chunkSize": 20, "chunkIntervalMs": 1}, "rules": [
            {"path": path, "match": match,
             "response": {"status": status, "content": content if isinstance(content, str) else json.dumps(content)}}
            for match, status, content in [("@", 200, echo), *rules]]}
        file = env.state / f"mock-llm-{self.port}.yaml"
        file.write_text(json.dumps(config))  # JSON is YAML
        node_env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "PORT": str(self.port), "HOST": "127.0.0.1"}
        self.process = env.start(["node", str(folder / "node_modules/@dwmkerr/mock-llm/dist/main.js"),
                                  "--config", str(file)], log=env.state / f"mock-llm-{self.port}.log",
                                 environment=node_env, cwd=env.state)
        self.process.wait_port(self.port, 20)

    def stop(self):
        self.process.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class ScriptedConnection:
    """One accepted connection of a ScriptedUpstream, given to its script in a thread of its own."""

    def __init__(self, sock):
        self.sock = sock
        self.request = b""
        self.gone = threading.Event()  # set once the other side closed or reset

    def read_request(self) -> bytes:
        """Head and body (by Content-Length) of one request."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.sock.recv(65536)
            if not piece:
                raise ConnectionError("request cut")
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n")
                       if line.lower().startswith(b"content-length:")), 0)
        while len(body) < length:
            piece = self.sock.recv(65536)
            if not piece:
                raise ConnectionError("request cut")
            body += piece
        self.request = head + b"\r\n\r\n" + body
        return self.request

    @property
    def json(self):
        return json.loads(self.request.partition(b"\r\n\r\n")[2])

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def head(self, status: str = "200 OK", headers=("Content-Type: text/event-stream",)) -> None:
        self.send("\r\n".join([f"HTTP/1.1 {status}", *headers, "Transfer-Encoding: chunked", "", ""]).encode())

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def event(self, content: str, **more) -> None:
        """One chat.completion.chunk as a chunk."""
        value = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": content}, **more}]}
        self.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def done(self) -> None:
        """In one piece: when the client has its [DONE] the connection is free for the next request."""
        self.send(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    def wait_gone(self, timeout: float = 10) -> bool:
        """Whether the other side leaves within the time."""
        self.sock.settimeout(timeout)
        try:
            while self.sock.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        self.gone.set()
        return True


class ScriptedUpstream:
    """A raw TCP server for faults: script(connection) runs for each connection in a thread; the connection closes when
    it returns. `connections` lists all of them; a script's exception other than OSError is kept in `errors`. path: a
    unix socket instead of a port."""

    def __init__(self, script, tls: ssl.SSLContext = None, backlog: int = 128, port: int = 0, path=None):
        self.script, self.tls = script, tls
        self.connections, self.errors = [], []
        self.arrived = threading.Condition()
        self.sock = self._listen_unix(path, backlog) if path else \
            socket.create_server(("127.0.0.1", port), backlog=backlog)
        self.port = 0 if path else self.sock.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/v1"
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    @staticmethod
    def _listen_unix(path, backlog: int) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        os.chmod(path, 0o666)
        sock.listen(backlog)
        return sock

    def _accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        try:
            sock.settimeout(30)
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True)
            connection = ScriptedConnection(sock)
            with self.arrived:
                self.connections.append(connection)
                self.arrived.notify_all()
            self.script(connection)
        except OSError:
            pass
        except Exception as error:  # shown by stop()
            self.errors.append(error)
        finally:
            sock.close()

    def wait_connections(self, count: int, timeout: float = 10) -> list:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.connections) >= count, timeout), \
                f"{len(self.connections)} connections, {count} expected"
            return list(self.connections)

    def stop(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        for connection in self.connections:
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        assert not self.errors, self.errors


class Authority:
    """A private CA under env.state: `ca_file`, and server contexts for names or addresses."""

    def __init__(self, env, name: str = "ca"):
        self.folder = env.folder(f"{name}-tls")
        self.ca_file = self.folder / "ca.pem"
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                      "-subj", f"/CN={name}", "-keyout", "ca.key", "-out", "ca.pem")
        self.ca_file.chmod(0o644)

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def issue(self, *names) -> tuple:
        """(certificate file, key file) for these names, each "DNS:..." or "IP:..."."""
        stem = f"leaf{time.monotonic_ns()}"
        (self.folder / f"{stem}.ext").write_text(f"subjectAltName={','.join(names)}\n")
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=leaf",
                      "-keyout", f"{stem}.key", "-out", f"{stem}.csr")
        self._openssl("x509", "-req", "-in", f"{stem}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                      "-days", "2", "-extfile", f"{stem}.ext", "-out", f"{stem}.pem")
        return self.folder / f"{stem}.pem", self.folder / f"{stem}.key"

    def context(self, *names) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(*(names or ("IP:127.0.0.1", "DNS:localhost"))))
        return context


class TlsFront(ScriptedUpstream):
    """Terminates TLS and copies to a plain port on loopback."""

    def __init__(self, port: int, context: ssl.SSLContext):
        self.target = port
        super().__init__(self._copy, context)

    def _copy(self, connection):
        with socket.create_connection(("127.0.0.1", self.target)) as plain:
            def back():
                try:
                    while piece := plain.recv(65536):
                        connection.sock.sendall(piece)
                    connection.sock.unwrap()
                except (OSError, ValueError):  # ValueError: the other direction has ended TLS already
                    pass
            thread = threading.Thread(target=back, daemon=True)
            thread.start()
            try:
                while piece := connection.sock.recv(65536):
                    plain.sendall(piece)
            finally:
                plain.shutdown(socket.SHUT_WR)
                thread.join(5)
