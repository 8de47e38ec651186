#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The checks of php/: its syntax and style (PSR-12), composer.json, and PHPUnit with ext-sodium and without.
#
#   tests/php/run.sh [-v]
#
# Each ends with its runner's closing lines. What the machine lacks is skipped with the reason; the last line counts.
# Debian packages: php-cli phpunit php-codesniffer php-xml php-mbstring; for more of the tests php-guzzlehttp-psr7,
# php-symfony-http-foundation, composer.
set -u
cd "$(dirname "$0")/../.." || exit 2

verbose=
case ${1-} in
'') ;;
-v) verbose=1 ;;
*)
	echo "usage: $0 [-v]" >&2
	exit 2
	;;
esac

passed=0 failed=0 skipped=0

skip() {
	skipped=$((skipped + 1))
	echo "SKIPPED $1: $2"
}

# check NAME COMMAND...
check() {
	name=$1
	shift
	echo "== $name"
	if "$@"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAILED $name"
	fi
}

have() { command -v "$1" >/dev/null 2>&1; }

has_sodium() { php -r 'exit(function_exists("sodium_crypto_auth") ? 0 : 1);'; }

# Debian's PHP has ext-sodium built in. A function that is disabled does not exist for PHP 8.
without_sodium='-d disable_functions=sodium_crypto_auth'

# units SODIUM PHP-OPTION...
units() {
	sodium=$1
	shift
	HANDOFF_SODIUM=$sodium php "$@" -d zend.assertions=1 -d error_reporting=-1 "$(command -v phpunit)" \
		-c tests/php/phpunit.xml ${verbose:+--testdox} --verbose
}

syntax() {
	find php/src tests/php -name '*.php' -exec php -l {} + | grep -v '^No syntax errors' && return 1
	echo "syntax: no errors"
}

style() {
	phpcs --standard=PSR12 --warning-severity=1 ${verbose:+-v} php/src tests/php && echo "PSR-12: no findings"
}

if ! have php; then
	skip php 'php is not installed'
else
	check syntax syntax
	if have phpcs; then
		check style style
	else
		skip style 'phpcs is not installed (php-codesniffer)'
	fi
	if ! have composer; then
		skip composer.json 'composer is not installed'
	else
		check composer.json env COMPOSER_ALLOW_SUPERUSER=1 composer --no-interaction --working-dir=php validate --strict
	fi
	if ! have phpunit; then
		skip 'PHPUnit' 'phpunit is not installed'
	else
		if has_sodium; then
			check 'PHPUnit with sodium' units 1
		else
			skip 'PHPUnit with sodium' 'PHP has no ext-sodium'
		fi
		# shellcheck disable=SC2086 # two words
		check 'PHPUnit without sodium' units 0 $without_sodium
	fi
fi

echo "tests/php: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
