# SPDX-License-Identifier: Apache-2.0
"""The harness: a private Apache, php-fpm and handoffd for the tests, nothing of the system touched or left behind.

    def test_it(env, apache_factory, handoffd_factory):
        daemon = handoffd_factory()                          # a demo backend behind listener "chat"
        apache = apache_factory(php="fpm", keys=daemon.keys, sockets=[daemon.path()])
        apache.chat_page(daemon)                             # chat.php signs with the php/ package
        response = request(apache.port, "/chat.php", body=b"hello")
        apache.expect("reason=token-mac")                    # log lines of level warn and above must be declared

Every object is a context manager, owns only its own processes and folders, and ends them by pid. BUILD names the build
directory; HANDOFF_SANITIZE=1 says that it is a sanitizer build (no seccomp filter in it).
Users when root: Apache www-data (33), php-fpm 64203, gate 64200, dialer 64201, streamers 64210 and up, with sanitizers proxy
(13) and 64500...; else all ours.
"""
# What tests import from here, whichever file it is in.
from apache import Apache, PhpFpm  # noqa: F401
from base import *  # noqa: F401,F403
from client import (Client, HttpError, Response, curl, get, parse_response, parse_sse, request,  # noqa: F401
                    sse_text)
from handoffd import Handoffd  # noqa: F401
from node_client import NodeClient  # noqa: F401
from upstream import Authority, MockLLM, ScriptedUpstream, TlsFront  # noqa: F401
