#!/bin/sh
# Puts together all that the program needs to run where there is nothing else: packaging/image-root.sh PROGRAM DIRECTORY.
# The program with the libraries that it links, certificates, time zones, and directories for rules, database and
# temporary files. The result is the file system of the container image; `chroot` runs it too.
set -eu
program=$1
root=$2

mkdir -p "$root/usr/bin" "$root/etc/ssl/certs" "$root/etc/b24-janitor" "$root/usr/share" "$root/state" "$root/tmp"
cp "$program" "$root/usr/bin/b24-janitor"
# Lines of ldd: `libc.so.6 => /lib/…/libc.so.6 (0x…)`, and `/lib64/ld-linux-x86-64.so.2 (0x…)` for the loader.
ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
cp -rL /usr/share/zoneinfo "$root/usr/share/"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
printf 'janitor:x:65532:65532::/state:/nonexistent\n' >"$root/etc/passwd"
chmod 1777 "$root/tmp"
