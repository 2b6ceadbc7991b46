#!/bin/sh
# Power cuts on an ext4 in a loop file, during intake and during a drain; see power_cut.py.
# usage: tests/power_cut/run.sh [ROUNDS] [PATH-OF-b24-janitor]   (default: 10, target/debug/b24-janitor)
# Needs root, loop devices, mkfs.ext4 and python3; where one is missing it says so and succeeds.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/needs.sh"
PYTHONDONTWRITEBYTECODE=1 python3 "$here/power_cut.py" "${2:-$here/../../target/debug/b24-janitor}" "${1:-10}"
