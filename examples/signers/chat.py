#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A WSGI application that hands its clients to handoffd; run as a script it is a CGI program.

Apache authenticates (REMOTE_USER); HANDOFF_KEYS and HANDOFF_SOCKET come from the environment:

    SetEnv HANDOFF_KEYS   /etc/handoffd/keys
    SetEnv HANDOFF_SOCKET /run/handoffd/chat.sock
"""
import json
from wsgiref.handlers import CGIHandler

from handoff_signer import HandoffError, Signer

BODY_MAX = 262144


def refuse(start_response, status, why):
    start_response(status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
    return [json.dumps({"error": why}).encode()]


def application(environ, start_response):
    if environ["REQUEST_METHOD"] != "POST":
        return refuse(start_response, "405 Method Not Allowed", "This address takes POST requests only.")
    user = environ.get("REMOTE_USER")
    if not user:
        return refuse(start_response, "403 Forbidden", "Who are you?")
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > BODY_MAX:
        return refuse(start_response, "413 Content Too Large", "The prompt is too long.")
    try:
        prompt = environ["wsgi.input"].read(length).decode()
    except UnicodeDecodeError:
        return refuse(start_response, "400 Bad Request", "The prompt is not UTF-8.")
    # In mod_wsgi these come with the request, in a CGI program with the process: environ has both.
    signer = Signer(environ.get("HANDOFF_KEYS", "/etc/handoffd/keys"))
    path = environ.get("HANDOFF_SOCKET", "/run/handoffd/chat.sock")
    data = json.dumps({"prompt": prompt}).encode()
    try:
        headers, body = signer.sign(environ.get("HANDOFF_BINDING"), path, data, f"user-{user}")
    except HandoffError as error:
        print(error, file=environ["wsgi.errors"])
        return refuse(start_response, "503 Service Unavailable", "The answer could not be handed over.")
    # These travel too, and reach the client with the daemon's answer.
    start_response("200 OK", [*headers, ("Cache-Control", "no-store")])
    return [body]


if __name__ == "__main__":
    CGIHandler().run(application)
