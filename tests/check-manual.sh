#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The manual pages: no warning of mandoc's, and every option of the configuration, with its default, and every command of
# handoffctl stands in its page.
set -eu
cd "$(dirname "$0")/.."
failed=0

for page in docs/man/*; do
	mandoc -Tlint -W warning "$page" || failed=1
done
# missing PAGE NAME: whether no item of the page names it.
missing() {
	! sed -n 's/^\.It \(Ic\|Cm\) //p' "$1" | tr -d , | tr ' ' '\n' | grep -qx -- "$2"
}
options=$(sed -n 's/.*CFG_[A-Z_]*("\([a-z-]*\)".*/\1/p' daemon/common/config*.c | sort -u)
for option in $options; do
	case $option in listen | backend | upstream | profile | handler) continue ;; esac
	if missing docs/man/handoffd.conf.5 "$option"; then
		echo "docs/man/handoffd.conf.5: the option $option is not there"
		failed=1
	fi
done
# says PAGE NAME VALUE: whether an item that names it gives this default.
says() {
	awk -v name="$2" -v value="$3" '
		/^\.It / { here = 0; for (i = 3; i <= NF; i++) if ($i == name) here = 1 }
		here && tolower($0) ~ "default " value "([^a-z0-9]|$)" { found = 1 }
		END { exit !found }' "$1"
}
defaults=$(sed -n 's/.*CFG_INT("\([a-z-]*\)", \([0-9]*\),.*/\1=\2/p
	s/.*CFG_BOOL("\([a-z-]*\)", cfg_false,.*/\1=no/p; s/.*CFG_BOOL("\([a-z-]*\)", cfg_true,.*/\1=yes/p' daemon/common/config*.c)
for default in $defaults; do
	if ! says docs/man/handoffd.conf.5 "${default%=*}" "${default#*=}"; then
		echo "docs/man/handoffd.conf.5: the default $default is not there"
		failed=1
	fi
done
commands=$(sed -n 's/^[[:space:]]*\.name = "\([a-z]*\)",$/\1/p' daemon/ctl/*.c)
for command in $commands; do
	if missing docs/man/handoffctl.8 "$command"; then
		echo "docs/man/handoffctl.8: the command $command is not there"
		failed=1
	fi
done
exit $failed
