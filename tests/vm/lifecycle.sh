#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Read by guest.sh: what becomes of the packages in a system: an upgrade from a lower version, removal, purge. Uses its
# functions, $lsm and $roles.
# shellcheck disable=SC2154

# What belongs to whoever configured the guest, or changes with every run of dpkg, Apache and the system's own housekeeping.
others="/vmtest /vmtest-out /proc /sys /dev /run /tmp /var/tmp /var/lib/dpkg /var/lib/systemd /var/cache /var/www /etc/apache2 /var/lib/apache2
	/etc/systemd/system/apache2.service.d /etc/alternatives /var/lib/selinux /etc/selinux"

# Files of the system but for these, and everything anywhere that has our name.
files() {
	local path prune=()
	for path in $others; do
		prune+=(-path "$path" -o)
	done
	find / -xdev \( "${prune[@]}" -path /var/log -o -path /root \) -prune -o -print
	find / -xdev \( -path /vmtest -o -path /vmtest-out -o -path /proc -o -path /sys -o -path /root \) -prune -o -name '*handoff*' -print |
		grep -vE '^(/usr/share/doc|/var/www)/'
	find /run -name '*handoff*' -print
}

process_ids() {
	local unit
	for unit in "${roles[@]}"; do
		pid_of "$unit"
	done
}

older_installs() {
	dpkg -i old/*.deb && a2enmod -q socket_handoff && [ "$(dpkg-query -W -f '${Version}' handoffd)" = 0.0.9 ] && start_all
}

# Everything goes on by itself: nobody starts, enables or configures anything after the upgrade.
upgrade() {
	local before key unit
	before=$(process_ids)
	key=$(cat /etc/handoffd/keys)
	grep -q '^# of 0.0.9$' /etc/apparmor.d/abstractions/handoffd-php || return 1
	dpkg -i --force-confold ./*.deb || return 1
	sleep 2
	systemctl is-active handoffd.target "${roles[@]}" || return 1
	for unit in "${roles[@]}"; do
		grep -qxF "$(pid_of "$unit")" <<<"$before" && echo "$unit is still the old process" && return 1
	done
	[ "$(cat /etc/handoffd/keys)" = "$key" ] && streams 20
}

# Changed by the administrator: kept. Not changed: the new one.
conffiles_are_kept() {
	grep -q 'workers = 2' /etc/handoffd/handoffd.conf && ! grep -q '^# of 0.0.9$' /etc/apparmor.d/abstractions/handoffd-php
}

# Removed: nothing runs, nothing is left to be started, Apache serves without the module; what the administrator made stays.
remove() {
	dpkg -r php-handoff libapache2-mod-socket-handoff handoffd || return 1
	! pgrep -a handoffd && ! systemctl list-units --no-legend 'handoffd*' | grep . && [ ! -e /run/handoffd ] &&
		apache2ctl -t && systemctl restart apache2 && [ -e /etc/handoffd/keys ] && grep -q 'workers = 2' /etc/handoffd/handoffd.conf
}

# Purged: every file is as it was before; users and groups stay, since files that they own may be anywhere.
purge() {
	rm -r /etc/systemd/system/apache2.service.d # which README.md has an administrator copy
	dpkg -P php-handoff libapache2-mod-socket-handoff handoffd || return 1
	if [ "$lsm" = selinux ] && semodule -l | grep -x handoffd; then return 1; fi
	! diff <(printf '%s\n' "$1" | sort -u) <(files | sort -u) | grep '^>'
}
