#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A CGI program that hands its clients to handoffd with nothing but handoffctl. Apache authenticates (REMOTE_USER);
# HANDOFF_KEYS, HANDOFF_SOCKET and, where it is not in PATH, HANDOFFCTL come from the environment (SetEnv).
#
# The daemon gets the client's JSON as it is. Where clients must not choose everything in it, build it here, with jq.
set -u

refuse() {
	printf 'Status: %s\nContent-Type: text/plain\nCache-Control: no-store\n\n%s\n' "$1" "$2"
	exit 0
}

# Whatever goes wrong says so in Apache's error log, on standard error.
fail() {
	echo "$1" >&2
	refuse '503 Service Unavailable' 'The answer could not be handed over.'
}

[ "${REQUEST_METHOD-}" = POST ] || refuse '405 Method Not Allowed' 'This address takes POST requests only.'
[ -n "${REMOTE_USER-}" ] || refuse '403 Forbidden' 'Who are you?'
# Only this variable: an HTTP_* one could be a client's, a REDIRECT_* one is an earlier request's.
[ -n "${HANDOFF_BINDING-}" ] || fail 'no binding: mod_socket_handoff is not enabled for this request'
case ${CONTENT_LENGTH-} in
'' | *[!0-9]* | ???????*) refuse '413 Content Too Large' 'The request has no length, or is too long.' ;;
esac

data=$(mktemp) || fail 'no temporary file'
trap 'rm -f "$data"' EXIT
head -c "$CONTENT_LENGTH" >"$data" || fail 'the request could not be read'

headers=$("${HANDOFFCTL:-handoffctl}" sign --headers --keys "${HANDOFF_KEYS:-/etc/handoffd/keys}" \
	--socket "${HANDOFF_SOCKET:-/run/handoffd/chat.sock}" --binding "$HANDOFF_BINDING" \
	--subject "user-$REMOTE_USER" <"$data") || fail 'handoffctl did not sign'

# Other headers that are printed here travel too, and reach the client with the daemon's answer.
printf '%s\nCache-Control: no-store\n\n' "$headers"
if printf '%s\n' "$headers" | grep -qx 'X-Handoff-Data-Source: body'; then
	cat "$data"
fi
