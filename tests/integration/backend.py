# SPDX-License-Identifier: Apache-2.0
"""application.py as an HTTP/1.1 server behind mod_proxy_http. It signs with the binding that it finds in the request
header BINDING_HEADER, which Apache sets (SocketHandoffBindingHeader)."""
import http.server
import threading
import urllib.parse

import application

BINDING_HEADER = "X-Edge-Binding"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def read_body(self) -> None:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                self.rfile.read(size + 2)
            while self.rfile.readline().strip():
                pass
        else:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_GET(self):
        self.read_body()
        query = urllib.parse.urlsplit(self.path).query
        plan = application.plan_of(query, self.headers.get("X-Plan", ""))
        status, lines, body = application.respond(plan, self.headers.get(BINDING_HEADER, ""), dict(self.headers))
        for interim in plan.get("interim", []):
            hints = [b"HTTP/1.1 103 Early Hints", *(line.encode() for line in interim), b"", b""]
            self.wfile.write(b"\r\n".join(hints))
        trailers = [line.encode() for line in plan.get("trailers", [])]
        lines.append(b"Transfer-Encoding: chunked" if trailers else b"Content-Length: %d" % len(body))
        self.wfile.write(b"\r\n".join([b"HTTP/1.1 %d Answer" % status, *lines, b"", b""]))
        if self.command == "HEAD" or status in (204, 304):
            return
        if trailers:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body += b"\r\n".join([b"0", *trailers, b"", b""])
        self.wfile.write(body)

    do_POST = do_HEAD = do_PUT = do_GET


class Backend:
    def __init__(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
