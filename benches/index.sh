#!/bin/sh
# A reviewer's index over a generated log: how long it takes to build, how large it is, and how long a query takes.
# benches/index.sh [RECORDS [DIRECTORY]]; ten million records take 5 GB there, which are removed at the end.
set -eu
records=${1:-10000000}
directory=$(mktemp -d "${2:-/var/tmp}/sekisho-index.XXXXXX")
trap 'rm -rf "$directory"' EXIT
target=${CARGO_TARGET_DIR:-target}
cargo build --release --package gateway --bin sekisho
cargo bench --package gateway-benches --bench log -- "$directory" "$records"
ask() {
    /usr/bin/time -f "%e s, %U s CPU, %M KiB: audit query $*" "$target/release/sekisho" audit query --dir "$directory/audit" \
        --keys "$directory/keys" --key "$directory/auditor" --passphrase-file "$directory/passphrase" --format json "$@" |
        wc -l
}
du -sh "$directory/audit" "$directory/keys"
echo "# built"
ask --patient 00000007
du -sh "$directory/auditor.index"
echo "# warm"
for patient in 00000007 00000008 00123456; do ask --patient "$patient"; done
ask --patient 00000007 --site clinic-3
ask --patient 00000007 --from 2026-01-10 --to 2026-01-12
ask --user user-7 --decision deny --from 2026-01-10 --to 2026-01-11
ask --user user-7
ask --patient nobody
