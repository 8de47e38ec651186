# SPDX-License-Identifier: Apache-2.0
"""The demo's chat page behind the harness's Apache: over HTTP, where the daemon answers on the client's own socket, and over
HTTPS with HTTP/2, where the answer comes back through Apache. /NAME/ is the page in front of backend NAME."""
import json
import os
import shutil

from env import ROOT, UID_FPM, Apache, Authority, Handoffd, ScriptedUpstream

SPEEDS = {"chat": 50, "slow": 200}  # milliseconds between two words


class ChatSite:
    def __init__(self, env, fpm):
        self.env = env
        self.scripted = ScriptedUpstream(self.answer)
        backends = {name: {"type": "demo", "delay": delay} for name, delay in SPEEDS.items()}
        backends["scripted"] = {"type": "openai", "upstream": "scripted", "model": "test"}
        self.daemon = Handoffd(env, backends, {name: {"backend": name, "relay": True} for name in backends},
                               {"scripted": {"url": self.scripted.url}})
        self.sessions = env.folder("sessions", 0o700, UID_FPM)
        site = env.folder("site")
        shutil.copytree(ROOT / "examples/demo/site", site, dirs_exist_ok=True)
        shutil.copytree(ROOT / "php/src", site / "handoff")
        secure = env.port()
        self.apache = Apache(env, php="fpm", fpm=fpm, keys=self.daemon.keys, modules=("ssl", "http2"),
                             conf=self._conf(site / "www", list(backends), secure))
        self.addresses = {"http": self.apache.url, "https": f"https://127.0.0.1:{secure}"}

    def _conf(self, www, names, port) -> str:
        certificate, key = Authority(self.env, "chat").issue("IP:127.0.0.1")
        lines = ["Protocols h2 http/1.1", "SocketHandoffRelay On", "AddType text/javascript .mjs",
                 f'SetEnv DEMO_KEYS "{self.daemon.keys.file(UID_FPM)}"',
                 f'SetEnv PHP_VALUE "session.save_path={self.sessions}"',
                 f'<Directory "{www}">\nRequire all granted\n</Directory>']
        for name in [*names, "gone"]:  # nothing listens at gone.sock
            lines += [f'Alias /{name}/ "{www}/"', f'<Location /{name}/>\nSetEnv DEMO_SOCKET "{self.daemon.path(name)}"\n</Location>']
        lines += [f"Listen 127.0.0.1:{port}", f"<VirtualHost 127.0.0.1:{port}>", "SSLEngine on",
                  f"SSLCertificateFile {certificate}", f"SSLCertificateKeyFile {key}", "</VirtualHost>"]
        return "\n".join(lines)

    @staticmethod
    def answer(connection):
        """Answers as the last message asks: "refuse STATUS", "fail" or "cut" after the first words, "empty", or in whole:
        with all messages that came."""
        connection.read_request()
        messages = connection.json["messages"]
        word, _, more = messages[-1]["content"].partition(" ")
        if word == "refuse":
            connection.send(b"HTTP/1.1 %s Refused\r\nRetry-After: 7\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                            % more.encode())
            return
        connection.head()
        if word == "empty":
            connection.done()
            return
        connection.event("first words; ")
        if word == "fail":
            connection.chunk(b'event: error\ndata: {"error":{"message":"upstream detail"}}\n\n')
        elif word != "cut":
            connection.event(json.dumps([message["content"] for message in messages]))
            connection.done()

    def end_sessions(self) -> None:
        for name in os.listdir(self.sessions):
            (self.sessions / name).unlink()

    def stop(self) -> None:
        for part in (self.apache, self.daemon, self.scripted):
            part.stop()
