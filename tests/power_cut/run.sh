#!/bin/sh
# Power cuts on an ext4 in a loop file, during intake and during a drain; see power_cut.py.
# usage: tests/power_cut/run.sh [ROUNDS] [PATH-OF-b24-janitor]   (default: 10, target/debug/b24-janitor)
# Needs root, loop devices, mkfs.ext4 and python3; where one is missing it says so and succeeds.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
for tool in mkfs.ext4 mount umount python3; do
    if ! command -v "$tool" >/dev/null; then
        echo "NOTICE: skipped: $tool is not here"
        exit 0
    fi
done
if test "$(id -u)" -ne 0 || ! test -e /dev/loop-control; then
    echo "NOTICE: skipped: root and loop devices are needed"
    exit 0
fi
PYTHONDONTWRITEBYTECODE=1 python3 "$here/power_cut.py" "${2:-$here/../../target/debug/b24-janitor}" "${1:-10}"
