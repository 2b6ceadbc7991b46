#!/usr/bin/env bash
# Builds one static program that runs on any Linux of this processor: packaging/build-static.sh. It is in
# target/*-linux-musl/release. Needs rustup and the C compiler of musl (Debian: musl-tools).
# What stays outside are data: the system's time zones (tzdata) and certificates (ca-certificates).
set -euo pipefail
cd "$(dirname "$0")/.."

target="$(uname -m)-unknown-linux-musl"
readonly target
command -v musl-gcc >/dev/null || { echo "musl-gcc is missing: apt install musl-tools" >&2; exit 1; }
rustup target add "$target"
cargo build --release --locked --target "$target"

program="target/$target/release/b24-janitor"
ldd "$program" 2>&1 | grep -qE "statically linked|not a dynamic executable" ||
    { echo "$program is not static" >&2; exit 1; }
echo "$program"
