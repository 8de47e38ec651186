# SPDX-License-Identifier: Apache-2.0
"""An upstream that uses TLS itself to the limit: `openssl s_server`, which changes its key whenever it is told to."""
import subprocess
import threading
import time

import pytest

from streams import Exchange, prompt_data


@pytest.mark.parametrize("http, alpn", [("1.1", "http/1.1"), ("2", "h2")])
def test_keys_that_change_without_end(env, authority, openai_factory, http, alpn):
    """The connection is given up: a flood of such messages would be read before anybody else had a turn."""
    certificate, key = authority.issue("DNS:localhost")
    port = env.port()
    daemon = openai_factory(f"https://localhost:{port}/v1", upstream={
        "http": http, "ca-file": authority.ca_file, "retries": 0, "connect-timeout": 30000})
    server = subprocess.Popen(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", certificate, "-key", key,
                               "-tls1_3", "-alpn", alpn], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    over = threading.Event()

    def change_keys():
        while not over.is_set():
            server.stdin.write(b"k\n")
            server.stdin.flush()
            time.sleep(0.001)
    try:
        while server.stdout.readline() != b"ACCEPT\n":
            pass
        threading.Thread(target=server.stdout.read, daemon=True).start()
        with Exchange(daemon, prompt_data("x")) as made:
            time.sleep(0.5)
            threading.Thread(target=change_keys, daemon=True).start()
            response = made.response()
            assert response.status == 502 and response.error()["code"] == "upstream-error"
        daemon.log.wait("event=upstream-tls", 1)
    finally:
        over.set()
        server.kill()
        server.wait()
