#!/usr/bin/env bash
# run.sh [compare.py's options]          Sekisho beside nginx, alternately, in one run: ratios of CPU per request
# run.sh logins [logins.py's options]    what sessions and logins cost
# run.sh tunnels [tunnels.py's options]  a clinic's uploads by WireGuard, beside what boringtun-cli needs to receive them; takes root
# run.sh peers [peers.py's options]      memory for each of many WireGuard peers, and an upload during floods of handshakes
#
# SEKISHO_BENCH  the folder of the proxy benchmark (bench.py, gen-pki.sh, loadgen/, peers/); required
# SEKISHO_BIN    the gateway; unless set, the release build is made
# BENCH_OUT      results, keys and Sekisho's audit log; unless set, target/bench. On a disk whose fdatasync is real
# CACHE          the built load generator and floor (~/.cache/sekisho-bench)
# Needs nginx, openssl and python3, two free cores, and ports 8443, 9000 and 9443 of 127.0.0.1.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
: "${SEKISHO_BENCH:?the folder of the proxy benchmark}"
target=${CARGO_TARGET_DIR:-$repo/target}
export CACHE=${CACHE:-$HOME/.cache/sekisho-bench} BENCH_OUT=${BENCH_OUT:-$target/bench} SEKISHO_BENCH
mkdir -p "$BENCH_OUT" "$CACHE/bin"
BENCH_OUT=$(cd "$BENCH_OUT" && pwd)
for tool in nginx openssl python3 taskset; do
  command -v "$tool" > /dev/null || { echo "run.sh: $tool is not installed" >&2; exit 1; }
done
tools=(loadgen)
case " $* " in *floor*) tools+=(hyper-floor) ;; esac
for tool in "${tools[@]}"; do
  [ -x "$CACHE/bin/$tool" ] && continue
  (cd "$SEKISHO_BENCH/$tool" && CARGO_TARGET_DIR="$CACHE/target" cargo build --release --locked)
  cp "$CACHE/target/release/$tool" "$CACHE/bin/"
done
if [ -z "${SEKISHO_BIN:-}" ]; then
  (cd "$repo" && cargo build --release --locked --package gateway --bin sekisho)
  SEKISHO_BIN=$target/release/sekisho
fi
export SEKISHO_BIN
"$SEKISHO_BENCH/gen-pki.sh" > /dev/null
# Measured anew in each run.
rm -f "$BENCH_OUT"/run/sekisho*/disk.txt
trap 'rm -rf "$BENCH_OUT"/run/sekisho*/discarded' EXIT
measure=compare.py
case "${1:-}" in logins | tunnels | peers) measure=$1.py && shift ;; esac
if [ "$measure" = peers.py ]; then
  (cd "$repo" && cargo build --release --locked --package gateway-benches --example tunnel_clients)
  export TUNNEL_CLIENTS=$target/release/examples/tunnel_clients
fi
python3 "$here/$measure" "$@"
