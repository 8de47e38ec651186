#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Builds the fuzzers into $BUILD/fuzz and runs each for some seconds: run.sh [SECONDS]. What they found before (the
# corpus) stays in $BUILD/fuzz and is where the next run begins; an input that breaks something is left there too.
set -eu

seconds=${1:-5}
cd "$(dirname "$0")/../.."
out=${BUILD:-build}/fuzz
mkdir -p "$out"

if ! command -v clang >/dev/null; then
	echo "fuzz: skipped, clang is not installed"
	exit 0
fi

/usr/bin/python3 tests/fuzz/make_seeds.py "$out/corpus"
# What a target needs besides lib/.
sources() {
	if [ "$1" = handler_head ]; then
		for part in handler_output handler_head handler_chunks utf8_repair text; do
			echo "daemon/streamer/$part.c"
		done
	fi
	case $1 in
	request) parts='request request_option request_body response_headers attachment chat_content chat_request data text' ;;
	h2) parts='transport_h2 h2_pool h2_connection h2_session wiped_memory upstream_head request_body data text' ;;
	*) return 0 ;;
	esac
	for part in $parts; do
		echo "daemon/streamer/$part.c"
	done
	for part in metrics channel log outcome; do
		echo "daemon/common/$part.c"
	done
}

targets='wire token status request handler_head h2'
for name in $targets; do
	# shellcheck disable=SC2046 # a list of files
	clang -std=gnu17 -D_GNU_SOURCE -I. -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
		-o "$out/fuzz_$name" "tests/fuzz/fuzz_$name.c" $(sources "$name") lib/*.c -DHANDOFFD_VERSION='""' \
		-lsodium -ljansson -lnghttp2 -lssl -lcrypto -lev -lcurl
done
for name in $targets; do
	echo "== fuzz_$name, $seconds s"
	if ! "$out/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
		-artifact_prefix="$out/$name-" "$out/corpus/$name" >"$out/$name.log" 2>&1; then
		tail -n 40 "$out/$name.log"
		echo "fuzz_$name: FAILED; the input is in $out/$name-*"
		exit 1
	fi
	grep -E '^(Done|stat::number_of_executed_units)' "$out/$name.log"
done
