# SPDX-License-Identifier: Apache-2.0
"""nginx as the HTTP/2 TLS front of an upstream that speaks HTTP/1.1: what stands before real services."""
import os
import re
import signal

from base import Env, Watched, alive, children, wait_for
from upstream import Authority

CONF = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
worker_processes {workers};
worker_rlimit_nofile 20000;
worker_shutdown_timeout 60s;
events {{ worker_connections 20000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    client_max_body_size 64m;
    log_format streams '$server_protocol $status conn=$connection requests=$connection_requests resumed=$ssl_session_reused sni=$ssl_server_name bytes=$body_bytes_sent';
    upstream service {{ server 127.0.0.1:{target}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port} ssl{http2} backlog=4096;
        access_log {folder}/access.log streams;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols {protocols};
        ssl_session_cache shared:TLS:1m;
        {options}
        location / {{
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_buffering off;
            proxy_read_timeout 300s;
        }}
    }}
}}
"""


class Nginx:
    """nginx with its own folder; `url` is what handoffd is given. options: further lines of the server section."""

    def __init__(self, env: Env, target: int, authority: Authority, names=("DNS:localhost",), http2: bool = True,
                 options: str = "", workers: int = 1, protocols: str = "TLSv1.2 TLSv1.3"):
        self.folder = env.folder("nginx")
        self.port = env.port()
        self.url = f"https://localhost:{self.port}/v1"
        certificate, key = authority.issue(*names)
        self.conf = dict(folder=self.folder, port=self.port, target=target, certificate=certificate, key=key,
                         http2=" http2" if http2 else "", options=options, workers=workers, protocols=protocols)
        self.file = self.folder / "nginx.conf"
        self.write()
        self.access_log = Watched(self.folder / "access.log")
        self.error_log = Watched(self.folder / "error.log")
        self.process = env.start(["nginx", "-p", self.folder, "-e", self.folder / "error.log", "-c", self.file],
                                 self.folder / "output.log")
        self.process.wait_port(self.port)

    def write(self, **changes) -> None:
        self.conf.update(changes)
        user = "user root;\n" if os.geteuid() == 0 else ""
        self.file.write_text(user + CONF.format(**self.conf))

    def master(self) -> int:
        return int((self.folder / "nginx.pid").read_text())

    def workers(self) -> list:
        return children(self.master())

    def reload(self, **changes) -> None:
        """SIGHUP: new workers; the old ones send GOAWAY and end with their last stream."""
        self.write(**changes)
        old = set(self.workers())
        os.kill(self.master(), signal.SIGHUP)
        wait_for(lambda: set(self.workers()) - old, 10, "new workers of nginx")

    def kill_workers(self) -> None:
        for pid in self.workers():
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not alive(pid), 5)

    def requests(self, since: int = 0) -> list:
        """Those that have ended, as dictionaries."""
        return [dict(re.findall(r"(\w+)=(\S*)", line), protocol=line.split()[0], status=line.split()[1])
                for line in self.access_log.lines(since)]

    def stop(self) -> None:
        self.process.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
