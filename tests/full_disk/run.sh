#!/bin/sh
# A disk that fills up, on an ext4 in a loop file; see full_disk.py.
# usage: tests/full_disk/run.sh [PATH-OF-b24-janitor]   (default: target/debug/b24-janitor)
# Needs root, loop devices, mkfs.ext4 and python3; where one is missing it says so and succeeds.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../power_cut/needs.sh"
PYTHONDONTWRITEBYTECODE=1 python3 "$here/full_disk.py" "${1:-$here/../../target/debug/b24-janitor}"
