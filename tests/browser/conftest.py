# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the demo's chat page in Chromium, served by the harness of tests/integration."""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "integration"))

import env as harness  # noqa: E402
from browser import Browser  # noqa: E402
from chat_site import ChatSite  # noqa: E402


@pytest.fixture(scope="session")
def env():
    environment = harness.Env()
    yield environment
    environment.close()


@pytest.fixture(scope="session")
def browser(env):
    chromium = Browser(env)
    yield chromium
    chromium.stop()


@pytest.fixture(scope="session")
def site(env, browser):
    fpm = harness.PhpFpm(env)
    chat_site = ChatSite(env, fpm)
    yield chat_site
    chat_site.stop()
    fpm.stop()


@pytest.fixture(autouse=True)
def nothing_unexpected(site, browser):
    """Log lines of the servers, and complaints in the browser's console, that a test did not declare."""
    yield
    assert not (found := site.apache.undeclared() + site.daemon.undeclared()), "undeclared log lines:\n" + "\n".join(found)
    assert not (found := browser.complaints()), "\n".join(found)


@pytest.fixture(params=["http", "https"])
def visit(request, site, browser):
    """visit(backend) opens its page, over HTTP and over HTTPS with HTTP/2."""
    return lambda backend="chat": browser.open(f"{site.addresses[request.param]}/{backend}/")
