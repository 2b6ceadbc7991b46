#!/usr/bin/env bash
# Builds the Debian package: packaging/build-deb.sh [argument of cargo deb…]. The .deb is in target/debian.
# Needs Rust, a C compiler and gzip; installs cargo-deb if it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly cargo_deb_version=3.8.0
cargo deb --version 2>/dev/null | grep -qxF "$cargo_deb_version" ||
    cargo install --quiet --locked cargo-deb --version "$cargo_deb_version"

# Man pages and completions come from the same definitions as the command line itself.
rm -rf target/man target/completions
cargo run --quiet --locked --example package_files -- target
gzip -9n target/man/*.1
gzip -9nc CHANGELOG.md >target/NEWS.gz

cargo deb --locked "$@"
