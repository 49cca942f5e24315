#!/usr/bin/env bash
# Installs what is missing, checks everything that ships, and runs every test: `bash tests/run.sh`.
#
# Needs Rust (rust-toolchain or the version in Cargo.toml) with rustfmt and clippy, a C compiler, and on a bare Debian
# root or sudo. A missing tool is an error, never a skip. Honours CARGO_TARGET_DIR, and SEKISHO_SHARED: a folder whose
# suites/limbo.json is read instead of the copy in certs/tests/.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
export CARGO_TARGET_DIR=$target
tools=$target/tools
venv=$target/venv
# For tests that need Python packages; see tests/requirements.txt.
export PYTHON=$venv/bin/python
# For those that need npm's; see tests/oidc.
export OIDC_MODULES=$target/oidc/node_modules
export PATH=$tools/bin:$PATH

nextest_version=0.9.143
deny_version=0.20.2

# step NAME COMMAND…: runs a command, with its name before and its duration behind it. Not in a condition: that would
# let a function go on after a command of it that failed.
step() {
    current=$1
    local started=$SECONDS
    shift
    printf '\n=== %s\n' "$current"
    "$@"
    printf '=== %s: %d s\n' "$current" $((SECONDS - started))
    current=
}
current=
trap '[ -z "$current" ] || printf "\n=== %s: FAILED, %d s after the start\n" "$current" "$SECONDS" >&2' EXIT

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Debian's packages by what they bring: a command, or a file.
packages() {
    local missing=()
    has() { command -v "$1" >/dev/null || missing+=("$2"); }
    holds() { compgen -G "$1" >/dev/null || missing+=("$2"); }
    has cc build-essential
    has c++ g++
    has curl curl
    has wg wireguard-tools
    has wireguard-go wireguard-go
    has ip iproute2
    has ping iputils-ping
    has nmap nmap
    has tcpdump tcpdump
    has oathtool oathtool
    has chromium chromium
    has openssl openssl
    has gnutls-cli gnutls-bin
    has strace strace
    has sslscan sslscan
    has testssl testssl.sh
    has systemd-socket-activate systemd
    has nbdkit nbdkit
    has nbdfuse libnbd-bin
    has fusermount3 fuse3
    has mkfs.ext4 e2fsprogs
    has losetup mount
    has unshare util-linux
    has promtool prometheus
    has nginx nginx
    has haproxy haproxy
    has socat socat
    has Orthanc orthanc
    has dcmqrscp dcmtk
    holds '/usr/share/orthanc/plugins/libOrthancDicomWeb.so*' orthanc-dicomweb
    holds '/usr/lib/*/faketime/libfaketime.so.1' libfaketime
    has chronyd chrony
    has softhsm2-util softhsm2
    has pebble pebble
    has pkcs11-tool opensc
    has swift-proxy-server swift-proxy
    has swift-account-server swift-account
    has swift-container-server swift-container
    has swift-object-server swift-object
    has memcached memcached
    has rsyslogd rsyslog
    holds '/usr/lib/*/rsyslog/lmnsd_gtls.so' rsyslog-gnutls
    holds '/usr/lib/*/rsyslog/lmnsd_ossl.so' rsyslog-openssl
    has node nodejs
    has npm npm
    has python3 python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "missing: ${missing[*]}"
    as_root apt-get update -qq
    # Tests start services themselves, on ports of their own; packages must not.
    local policy=/usr/sbin/policy-rc.d ours=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
        ours=yes
    fi
    local installed=0
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" || installed=$?
    [ -z "$ours" ] || as_root rm -f "$policy"
    return "$installed"
}

python_packages() {
    [ -x "$PYTHON" ] || python3 -m venv "$venv"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --requirement tests/requirements.txt
}

# What the lock file names, and nothing that a package would run while it is installed.
node_packages() {
    mkdir -p "$target/oidc"
    cp tests/oidc/package.json tests/oidc/package-lock.json "$target/oidc"
    npm --prefix "$target/oidc" ci --ignore-scripts --no-audit --no-fund --loglevel=error
}

# cargo_tool NAME VERSION: any installed version will do; an absent one is built.
cargo_tool() {
    if ! "$1" --version 2>/dev/null; then
        # Tools run for seconds: building them unoptimised is what counts.
        cargo install --locked --debug --root "$tools" --target-dir "$tools/build" --version "$2" "$1"
        rm -rf "$tools/build"
    fi
}

install_nextest() { cargo_tool cargo-nextest "$nextest_version"; }
install_deny() { cargo_tool cargo-deny "$deny_version"; }

# A program has no outside: its documentation is for those who work on it.
documentation() {
    RUSTDOCFLAGS="-Dwarnings -Arustdoc::private-intra-doc-links" cargo doc --workspace --no-deps --document-private-items --quiet
}

shipped_configuration() {
    # Keys and certificates are not shipped, so the text alone is judged.
    "$target/debug/sekisho" check --text-only deploy/sekisho.toml
    "$target/debug/sekisho" policy check policy/examples/clinic
    "$target/debug/sekisho" policy test policy/examples/clinic/cases.toml
}

alert_rules() {
    promtool check rules deploy/alerts.yml
    promtool test rules deploy/alerts_test.yml
}

quickstart() {
    local folder status=0
    folder=$(mktemp -d)
    cargo run --quiet --release -- quickstart --check --dir "$folder/q" || status=$?
    # What the quickstart wrote is a whole configuration: files and all.
    [ "$status" != 0 ] || "$target/release/sekisho" check "$folder/q/sekisho.toml" || status=$?
    rm -rf "$folder"
    return "$status"
}

step 'Debian packages' packages
step 'Python packages' python_packages
step 'Node packages' node_packages
step 'cargo-nextest' install_nextest
step 'cargo-deny' install_deny
step 'format' cargo fmt --all --check
step 'dependencies: bans, licences, sources' cargo deny --config .deny.toml check bans licenses sources
step 'clippy' cargo clippy --quiet --workspace --all-targets -- -D warnings
step 'documentation' documentation
step 'build' cargo build --quiet
step 'shipped configuration and policies' shipped_configuration
step 'alert rules' alert_rules
step 'quickstart' quickstart
# Parsers on what nobody thought of: ten seconds for each target.
step 'fuzzing' tests/fuzz/run.sh
step 'tests' cargo nextest run --workspace --profile ci
printf '\n=== all green after %d s\n' "$SECONDS"
