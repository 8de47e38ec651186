#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A program that receiver.c runs for each client: the client is its output, what the application said is HANDOFF_DATA.
printf 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n'
printf 'data: %s\n\n' "$HANDOFF_DATA"
printf 'data: [DONE]\n\n'
