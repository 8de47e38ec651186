#!/usr/bin/python3 -IS
# SPDX-License-Identifier: Apache-2.0
"""The application of app.php (receiver.py) in Python: run by Apache as a CGI program, and behind mod_proxy_http as
Backend. The plan comes as ?plan= or in the header X-Plan. It signs by itself and shares no code with handoff1.py.

Beyond app.php's, the plan of a backend may have `interim` (header lines of a 103 before the response) and `trailers`.
"""
import base64
import hashlib
import hmac
import json
import os
import sys
import time
import urllib.parse


def plan_of(query: str, header: str) -> dict:
    text = urllib.parse.parse_qs(query).get("plan", [header])[0]
    return json.loads(base64.urlsafe_b64decode(text)) if text else {}


def data_of(plan: dict) -> bytes:
    data = base64.b64decode(plan["data64"]) if "data64" in plan else plan.get("data", "").encode()
    data *= plan.get("repeat", 1)
    if "length" in plan:
        data = (data * (plan["length"] // len(data) + 1))[:plan["length"]]
    return data


def token(sign: dict, binding: str, data: bytes) -> str:
    def le64(number):
        return number.to_bytes(8, "little")
    exp = str(int(time.time()) + sign.get("exp", 30))
    signed = sign["data"].encode() if "data" in sign else data
    pieces = [b"handoff-token-v1", sign["kid"].encode(), exp.encode(), binding.encode(), sign["socket"].encode(),
              sign.get("subject", "").encode(), hashlib.sha512(signed).digest()]
    message = le64(len(pieces)) + b"".join(le64(len(piece)) + piece for piece in pieces)
    mac = hmac.new(base64.b64decode(sign["key"]), message, hashlib.sha512).digest()[:32]
    text = base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
    return f"{sign.get('version', 'v1')}.{sign['kid']}.{exp}.{text}{sign.get('tail', '')}"


def respond(plan: dict, binding: str, shown: dict):
    """(status, header lines as bytes, body) of the response that the plan asks for."""
    data = data_of(plan)
    lines = [b"Content-Type: text/html"] if not any(line.lower().startswith("content-type:")
                                                    for line in plan.get("headers", [])) else []
    if plan.get("show"):
        return 200, [b"Content-Type: application/json"], json.dumps(shown).encode()
    if "sign" in plan and plan["sign"]:
        lines.append(b"X-Handoff-Token: " + token(plan["sign"], plan.get("binding", binding), data).encode())
    lines += [line.encode().replace(b"{data}", data) for line in plan.get("headers", [])]
    output = plan.get("output", "").encode() * plan.get("pad", 1)
    body = b" " * 20000 if plan.get("late") else b""  # a pipe's worth at most: httpd may still be writing the body
    return plan.get("status", 200), lines, body + (data if plan.get("echo") else b"") + output


def cgi() -> None:
    plan = plan_of(os.environ.get("QUERY_STRING") or os.environ.get("REDIRECT_QUERY_STRING", ""),
                   os.environ.get("HTTP_X_PLAN", ""))
    status, lines, body = respond(plan, os.environ.get("HANDOFF_BINDING", ""), dict(os.environ))
    if plan.get("read"):
        sys.stdin.buffer.read()
    out = sys.stdout.buffer
    if "status" in plan:  # else httpd's, which knows whether this is an error page
        lines.insert(0, b"Status: %d" % status)
    out.write(b"\n".join([*lines, b"", body]))
    out.flush()
    if plan.get("late") == "read":
        sys.stdin.buffer.read()


if __name__ == "__main__":
    cgi()
