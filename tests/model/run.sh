#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Checks the ownership rule with spin: the rule holds in every state, no run goes on for ever (so each one reaches the
# verdict), and each rule broken on purpose is noticed.
#
#   tests/model/run.sh [-q]     -q: one line a check, no trail of a failure
#
# Works in $BUILD/model.
set -eu

quiet=
[ "${1:-}" = -q ] && quiet=yes
model=$(cd "$(dirname "$0")" && pwd)/ownership.pml
work=${BUILD:-build}/model
passed=0
failed=0

for tool in spin gcc; do
	if ! command -v "$tool" >/dev/null; then
		echo "model: skipped, $tool is not installed"
		echo "0 passed, 0 failed"
		exit 0
	fi
done
mkdir -p "$work"
cd "$work"

pass() {
	passed=$((passed + 1))
	echo "model: $1: ok ($(states) states)"
}
fail() {
	failed=$((failed + 1))
	echo "model: $1: FAILED: $2"
	[ -n "$quiet" ] && return
	cat pan.out
	if [ -e ownership.pml.trail ]; then
		spin ${3:+"$3"} -t -p -g ownership.pml | tail -n 120
	fi
}
states() {
	sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.out
}

# explore SPIN_DEFINE PAN_DEFINE PAN_OPTIONS: pan.out is pan's report
explore() {
	rm -f pan pan.* ownership.pml.trail
	cp "$model" ownership.pml
	# shellcheck disable=SC2086 # an empty define is no argument
	spin $1 -a ownership.pml >pan.out 2>&1 || return 1
	# spin's output is not written for warnings.
	gcc -O2 -w "$2" -DCOLLAPSE -o pan pan.c >>pan.out 2>&1 || return 1
	# shellcheck disable=SC2086
	./pan -m100000 $3 >pan.out 2>&1
}

# Every state was visited, without an error.
holds() {
	if ! explore '' "$2" "$3"; then
		fail "$1" "spin, gcc or pan ended with an error"
	elif grep -q 'max search depth too small' pan.out; then
		fail "$1" "search cut off at its greatest depth"
	elif ! grep -q 'errors: 0$' pan.out || grep -q '^pan: *[a-z ]*\(memory\|interrupted\)' pan.out; then
		fail "$1" "the rule is broken, or the search did not end"
	elif sed -n '/^unreached/,$p' pan.out | grep 'ownership.pml:' | grep -qv '"-end-"'; then
		fail "$1" "a part of the model is never reached"
	else
		pass "$1"
	fi
}

# A rule broken on purpose: an assertion of the model must notice.
rejected() {
	explore "-D$1" -DSAFETY '' || true
	if grep -q 'assertion violated' pan.out; then
		pass "$1 is rejected"
	else
		fail "$1 is rejected" "no assertion noticed it" "-D$1"
	fi
}

holds "one writer, an answer or a close, nothing leaks" -DSAFETY ''
# No cycle in the graph of states, so the verdict is reached whatever happens.
holds "every run ends" -DNP -l
rejected MUTANT_GATE_ACCEPTS
rejected MUTANT_WRITE_BEFORE_ACCEPT
rejected MUTANT_EOF_IS_ACCEPT

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
