#!/usr/bin/env bash
# Tries a package in a clean Debian: packaging/try-package.sh PACKAGE.deb DIRECTORY. As root; needs debootstrap, and the
# network for the directory's first use. Installs, sets up against the sandbox, deletes, upgrades, removes, purges, and says how
# long it took and how much had to be typed. Without systemd inside: units are installed and enabled, not started.
set -euo pipefail
package=$1
root=$2

test -d "$root/etc" || debootstrap --variant=minbase --include=ca-certificates,tzdata bookworm "$root" >/dev/null

in_root() {
    chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"
}
check() { "$@" || { echo "not so: $*" >&2; exit 1; }; }
absent() { test ! -e "$1"; }

in_root dpkg --purge b24-janitor >/dev/null 2>&1 || true
rm -rf "$root/etc/b24-janitor" "$root/root/janitor.db"*
cp "$package" "$root/root/b24-janitor.deb"
cp "$(dirname "$0")/try-package.keys" "$root/root/keys.sh"

begun=$(date +%s%N)
in_root dpkg -i /root/b24-janitor.deb >/dev/null
installed=$(date +%s%N)
in_root b24-janitor --version
check test -L "$root/etc/systemd/system/multi-user.target.wants/b24-janitor.service"
check test -L "$root/etc/systemd/system/sockets.target.wants/b24-janitor.socket"

# Not by the function: what is to be killed is the program, not a shell around it.
chroot "$root" /usr/bin/b24-janitor sandbox --leads 2000 --listen 127.0.0.1:8190 >"$root/root/sandbox.log" &
sandbox=$!
trap 'kill "$sandbox" 2>/dev/null' EXIT
# Ten seconds are far more than it takes; it ends at once where its port is taken.
for _ in $(seq 200); do
    grep -qs "Ctrl-C ends it" "$root/root/sandbox.log" && break
    check kill -0 "$sandbox"
    sleep 0.05
done

ready=$(date +%s%N)
in_root sh -e /root/keys.sh
ended=$(date +%s%N)
check test "$(stat -c %a "$root/etc/b24-janitor/environment")" = 600

rules=$(md5sum <"$root/etc/b24-janitor/rules.yaml")
in_root dpkg -i /root/b24-janitor.deb >/dev/null 2>&1
check test "$rules" = "$(md5sum <"$root/etc/b24-janitor/rules.yaml")"
in_root dpkg --purge b24-janitor >/dev/null 2>&1
check test "$rules" = "$(md5sum <"$root/etc/b24-janitor/rules.yaml")"
in_root dpkg -i /root/b24-janitor.deb >/dev/null 2>&1
in_root sh -c 'echo b24-janitor b24-janitor/remove-all boolean true | debconf-set-selections'
in_root dpkg --purge b24-janitor >/dev/null 2>&1
check absent "$root/etc/b24-janitor"

echo "installed in $(((installed - begun) / 1000000)) ms; from there to the last deletion $(((ended - ready) / 1000000)) ms"
echo "typed: $(grep -v '^#' "$root/root/keys.sh" | wc -c) keys, the webhook's address included"
