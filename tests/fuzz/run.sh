#!/usr/bin/env bash
# run.sh [SECONDS [TARGET ...]]   builds the fuzz targets and runs each for SECONDS
#
# Without SECONDS it is the short form, which tests/run.sh calls: 10 s each, two to three minutes in all. Its dependencies are
# those of the debug build, shared with it, so that only our own crates are compiled, and only they tell libFuzzer where
# they have been. With SECONDS all is optimised and all tells, in a build of its own, which takes minutes.
#
# The long form, for a night:          tests/fuzz/run.sh 3600
# One target, on its own corpus:       tests/fuzz/run.sh 600 head
# A finding again:                     the command that this script prints
#
# Needs a C++ compiler for libFuzzer, and installs it where it can (Debian). The stable toolchain is enough: coverage
# is compiled in by LLVM's own pass, and nothing that is fuzzed has `unsafe` code for a sanitizer to watch.
# Corpora grow in SEKISHO_FUZZ_DIR (target/fuzz); findings are put there as well, and end the script with an error.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
long=${1:-}
seconds=${1:-10}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(head target config audit_reader audit_sealed spiffe certificate patients login tunnel dicom hl7 proxy)
dir=${SEKISHO_FUZZ_DIR:-${CARGO_TARGET_DIR:-$repo/target}/fuzz}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

if ! command -v c++ > /dev/null; then
  sudo=$([ "$(id -u)" = 0 ] || echo sudo)
  $sudo apt-get update -q
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends g++
fi

flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
flags+=" -Cllvm-args=-sanitizer-coverage-trace-compares"
# The versions that ship, and libFuzzer's.
cp "$repo/Cargo.lock" "$here/Cargo.lock"
if [ -z "$long" ]; then
  binaries=${CARGO_TARGET_DIR:-$repo/target}
  # Cargo does not see what a wrapper adds, so that the dependencies are fresh in both builds; our own crates have a
  # profile of their own, and thus files of their own.
  SEKISHO_FUZZ_FLAGS=$flags RUSTC_WRAPPER=$here/rustc.sh cargo build -j2 --quiet --manifest-path "$here/Cargo.toml" \
    --target-dir "$binaries" --bins
  binaries+=/debug
else
  triple=$(rustc -vV | sed -n 's/^host: //p')
  # With a target triple the flags are not for build scripts and macros.
  RUSTFLAGS=$flags cargo build --release --manifest-path "$here/Cargo.toml" --target "$triple" \
    --target-dir "$dir/build" --bins
  binaries=$dir/build/$triple/release
fi

# The shipped configurations are seeds, too.
mkdir -p "$dir/shipped"
cp "$repo/deploy/sekisho.toml" "$dir/shipped/deploy.toml"
cp "$repo/gateway/src/quickstart/sekisho.toml" "$dir/shipped/quickstart.toml"

failed=0
for target in "${targets[@]}"; do
  corpus=$dir/corpus/$target
  findings=$dir/findings/$target
  mkdir -p "$corpus" "$findings"
  arguments=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$findings/")
  seeds=("$here/seeds/$target")
  case $target in
    head) arguments+=(-max_len=2048 -dict="$here/head.dict") ;;
    config) arguments+=(-max_len=8192 -dict="$here/config.dict"); seeds+=("$dir/shipped") ;;
    target) arguments+=(-max_len=512) ;;
    # A path is to be found or refused in a bounded time: less than this by far, under coverage and on a busy machine.
    certificate) arguments+=(-max_len=4096 -timeout=5) ;;
    patients) arguments+=(-max_len=4096 -dict="$here/patients.dict") ;;
    tunnel) arguments+=(-max_len=1024) ;;
    dicom | hl7) arguments+=(-max_len=4096) ;;
    audit_reader | audit_sealed | spiffe | login) arguments+=(-max_len=1024) ;;
  esac
  binary=$binaries/$target
  log=$dir/$target.log
  if "$binary" "${arguments[@]}" "$corpus" "${seeds[@]}" > "$log" 2>&1; then
    grep -E 'number_of_executed_units|new_units_added' "$log" | sed "s/^stat::/$target: /"
  else
    failed=1
    tail -40 "$log"
    echo "fuzz target $target failed; again with: $binary $(find "$findings" -type f -newer "$here/run.sh" | tail -1)"
  fi
done
exit "$failed"
