#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# As the original's handlers: the output is the whole response, what the application said is in HANDOFF_DATA.
# The prompt in large letters: mode = http.
prompt=$(printf '%s' "$HANDOFF_DATA" | sed -n 's/.*"prompt"[[:space:]]*:[[:space:]]*"\([^"\\]*\)".*/\1/p')
printf 'HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n'
# -- and the argument as one word: what the prompt holds is letters, never an option.
exec figlet -w 80 -- "${prompt:-nothing}"
