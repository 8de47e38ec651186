#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A shell program that streams plain text, a line at a time: mode = text, or sse for events of it.
for word in one two three; do
	echo "$word"
	sleep "${PAUSE:-0.2}"
done
printf 'The application said %s\n' "$HANDOFF_DATA"
