#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Whether built programs and modules have the hardening that the Makefile asks for, read from the files themselves:
#
#     tests/check-hardening.sh FILE...
#
# Ends with "N passed, N failed"; the exit status says whether all passed. What this machine's toolchain cannot give is
# printed as "note", with the reason.
set -u

passed=0
failed=0

check() { # FILE WHAT COMMAND...
	file=$1 what=$2
	shift 2
	if "$@"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAILED $file: $what"
	fi
}

header() { readelf -Wh "$1" 2>/dev/null; }
segments() { readelf -Wl "$1" 2>/dev/null; }
dynamic() { readelf -Wd "$1" 2>/dev/null; }
symbols() { readelf -W --dyn-syms "$1" 2>/dev/null; }
properties() { readelf -Wn "$1" 2>/dev/null; }

is_elf() { header "$1" | grep -q 'ELF Header'; }
is_position_independent() { header "$1" | grep -Eq '^ *Type: *DYN '; }
is_pie_flagged() { dynamic "$1" | grep -Eq 'FLAGS_1.* PIE'; }
has_relro() { segments "$1" | grep -q 'GNU_RELRO'; }
binds_now() { dynamic "$1" | grep -Eq 'BIND_NOW|FLAGS_1.* NOW'; }
has_plain_stack() { segments "$1" | grep -Eq 'GNU_STACK +[^ ]+ +[^ ]+ +[^ ]+ +[^ ]+ +[^ ]+ +RW +'; }
has_no_rwx_segment() { ! segments "$1" | grep -Eq '^ +LOAD.* RWE +'; }
has_stack_protector() { symbols "$1" | grep -q '__stack_chk_fail'; }
has_no_text_relocation() { ! dynamic "$1" | grep -Eq 'TEXTREL'; }
has_no_rpath() { ! dynamic "$1" | grep -Eq 'RPATH|RUNPATH'; }
# httpd loads modules with RTLD_GLOBAL: a name that one exports is found by all that are loaded later.
is_module() { case $1 in *.so) ;; *) false ;; esac; }
exports_its_record_only() { [ "$(nm -D --defined-only "$1" | awk '{print $3}')" = socket_handoff_module ]; }
has_property() { properties "$1" | grep -Eq "$2"; }

# Functions that FORTIFY replaces when it can: whoever calls one of them must have a _chk among its symbols.
fortifiable='(mem(cpy|move|set)|str(cpy|cat|ncpy|ncat)|v?s?n?printf|v?fprintf|read|recv|recvfrom|pread64?|readlink|realpath|poll|fgets)'
calls_fortifiable() { symbols "$1" | grep -Eq " UND (__)?$fortifiable(_chk)?(@|\$)"; }
is_fortified() { symbols "$1" | grep -Eq ' UND __[a-z_0-9]+_chk(@|$)' ; }

# Only the entry points that Apache or a plugin loader looks up are executed by name: a library is no program.
is_program() { segments "$1" | grep -q 'INTERP'; }

check_branch_protection() { # FILE
	case $(header "$1" | sed -n 's/^ *Machine: *//p') in
	*X86-64*) wanted='IBT SHSTK' ;;
	AArch64*) wanted='BTI PAC' ;;
	*) wanted='' ;;
	esac
	for property in $wanted; do
		if ! toolchain_gives "$property"; then
			echo "note   $1: no $property: the C library's start files are without it, and the linker keeps what all parts have"
			continue
		fi
		check "$1" "the $property property" has_property "$1" "$property"
	done
}

# What an empty program linked the same way has.
probe=$(mktemp) || exit 1
trap 'rm -f "$probe"' EXIT
case $(uname -m) in
x86_64) protection=-fcf-protection=full ;;
aarch64) protection=-mbranch-protection=standard ;;
*) protection= ;;
esac
# shellcheck disable=SC2086 # empty where the architecture has none
if ! echo 'int main(void) { return 0; }' | ${CC:-cc} $protection -x c -o "$probe" - 2>/dev/null; then
	echo "note   no compiler here: branch protection is checked as if the toolchain gave it"
	probe_failed=1
fi
toolchain_gives() { [ -n "${probe_failed-}" ] || has_property "$probe" "$1"; }

if [ $# -eq 0 ]; then
	echo "usage: $0 FILE..." >&2
	exit 2
fi
for file in "$@"; do
	check "$file" "not an ELF file" is_elf "$file"
	is_elf "$file" || continue
	check "$file" "position independent (DYN)" is_position_independent "$file"
	if is_program "$file"; then
		check "$file" "linked as a position independent executable" is_pie_flagged "$file"
	fi
	check "$file" "relocations read-only (GNU_RELRO)" has_relro "$file"
	check "$file" "all symbols bound at start (BIND_NOW)" binds_now "$file"
	check "$file" "stack not executable" has_plain_stack "$file"
	check "$file" "no segment writable and executable" has_no_rwx_segment "$file"
	check "$file" "stack protector (__stack_chk_fail)" has_stack_protector "$file"
	if calls_fortifiable "$file"; then
		check "$file" "FORTIFY (_chk functions)" is_fortified "$file"
	fi
	check "$file" "no text relocations" has_no_text_relocation "$file"
	check "$file" "no RPATH or RUNPATH" has_no_rpath "$file"
	if is_module "$file"; then
		check "$file" "nothing exported but the module's record" exports_its_record_only "$file"
	fi
	check_branch_protection "$file"
done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
