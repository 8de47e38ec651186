# SPDX-License-Identifier: Apache-2.0
"""The HTTP/2 transport with nginx as the TLS front of a service: what works, and what an operator does to nginx."""
import pytest

from env import ScriptedUpstream, wait_for
from nginx import Nginx
from test_streamer_demo import exchange, prompt_data
from test_streamer_openai import PROMPTS, authority, openai_factory  # noqa: F401, fixtures


@pytest.fixture
def behind_nginx(env, authority, openai_factory):
    """behind_nginx(script or port, ...) -> (upstream or None, nginx, daemon)"""
    made = []

    def make(script, upstream=None, backend=None, **how):
        service = ScriptedUpstream(script, backlog=4096) if callable(script) else None
        front = Nginx(env, service.port if service else script, authority, **how)
        made.extend(part for part in (front, service) if part)
        daemon = openai_factory(front.url, backend=backend,
                                upstream={"http": "2", "ca-file": authority.ca_file, **(upstream or {})})
        return service, front, daemon
    yield make
    for part in made:
        part.stop()
    for part in made:
        assert not getattr(part, "errors", None), part.errors


@pytest.mark.parametrize("prompt", PROMPTS, ids=["quotes", "line-ends", "unicode", "sse", "long"])
def test_echo(behind_nginx, mock_llm, prompt):
    """mock-llm builds its answer from the request it got, so the text went both ways."""
    _, front, daemon = behind_nginx(mock_llm.port)
    assert exchange(daemon, prompt_data(prompt)).text() == prompt
    made, = wait_for(front.requests, 5)
    assert (made["protocol"], made["status"], made["sni"]) == ("HTTP/2.0", "200", "localhost")
