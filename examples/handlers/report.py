#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A CGI program in Python: mode = cgi. The data is on the descriptor HANDOFF_DATA_FD, however large it is."""
import json
import os
import sys


def main() -> int:
    with os.fdopen(int(os.environ["HANDOFF_DATA_FD"]), "rb") as file:
        data = file.read()
    try:
        request = json.loads(data or b"{}")
    except ValueError as error:
        print(f"the data is not JSON: {error}", file=sys.stderr)
        print("Status: 400 Bad Request\nContent-Type: text/plain\n\nThe data is not JSON.")
        return 0
    print("Content-Type: application/json; charset=utf-8\n")
    print(json.dumps({"said": request, "length": len(data), "subject": os.environ.get("HANDOFF_SUBJECT")}, sort_keys=True))
    return 0


sys.exit(main())
