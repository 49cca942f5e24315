#!/usr/bin/env bash
# Sekisho as a peer of the proxy benchmark: BENCH_LISTEN, BENCH_UPSTREAM, BENCH_CERT, BENCH_KEY, BENCH_CA and BENCH_DIR
# become a folder with configuration, policies and registry; then the gateway runs in the foreground, one worker.
#
# Nothing is left out that a clinic has: policies decide each request, and no answer leaves before its record is durable.
# SEKISHO_BIN is the binary (the release build), SEKISHO_ADMIN the address of metrics and health (127.0.0.1:9443),
# SEKISHO_DURABILITY another audit.durability than before-answer; SEKISHO_LOGINS adds logins (logins.py),
# SEKISHO_TUNNELS a listener of WireGuard with this `inside_tls`, and uploads (tunnels.py). `who.sh $BENCH_DIR` shows whom the records name.
set -euo pipefail
umask 077
here=$(cd "$(dirname "$0")" && pwd)
SEKISHO_BIN=${SEKISHO_BIN:-${CARGO_TARGET_DIR:-$here/../../target}/release/sekisho}
mkdir -p "$BENCH_DIR"
D=$(cd "$BENCH_DIR" && pwd)
mkdir -p "$D/tls" "$D/policy" "$D/audit"

# A key that others may read is refused.
install -m 600 "$BENCH_KEY" "$D/tls/server.key"
install -m 644 "$BENCH_CERT" "$D/tls/server.crt"
install -m 644 "$BENCH_CA" "$D/tls/devices-ca.crt"

cat > "$D/policy/bench.cedar" <<'CEDAR'
// Ten policies in the manner of a clinic's; `engineer-bench` decides the benchmark's requests.
@id("engineer-bench")
permit (
  principal in Sekisho::Role::"engineer",
  action in [Sekisho::Action::"read", Sekisho::Action::"search"],
  resource in Sekisho::InformationClass::"bench"
);
@id("doctor-clinical")
permit (
  principal in Sekisho::Role::"doctor",
  action in
    [Sekisho::Action::"read", Sekisho::Action::"search", Sekisho::Action::"create", Sekisho::Action::"update"],
  resource in Sekisho::InformationClass::"clinical"
);
@id("nurse-clinical")
permit (
  principal in Sekisho::Role::"nurse",
  action in [Sekisho::Action::"read", Sekisho::Action::"search"],
  resource in Sekisho::InformationClass::"clinical"
);
@id("nurse-observation")
permit (
  principal in Sekisho::Role::"nurse",
  action == Sekisho::Action::"create",
  resource in Sekisho::InformationClass::"clinical"
)
when { context has resource_type && context.resource_type == "Observation" };
@id("pharmacist-medication")
permit (
  principal in Sekisho::Role::"pharmacist",
  action in [Sekisho::Action::"read", Sekisho::Action::"search", Sekisho::Action::"update"],
  resource in Sekisho::InformationClass::"medication"
);
@id("clerk-administrative")
permit (
  principal in Sekisho::Role::"clerk",
  action,
  resource in Sekisho::InformationClass::"administrative"
);
@id("kiosk-administrative-only")
forbid (principal in Sekisho::Role::"kiosk", action, resource)
unless { resource in Sekisho::InformationClass::"administrative" };
@id("delete-needs-login")
forbid (principal, action == Sekisho::Action::"delete", resource)
when { context.authentication_level < 2 };
@id("bench-tls-1.3")
forbid (principal, action, resource in Sekisho::InformationClass::"bench")
unless { context has tls_version && context.tls_version == "1.3" };
@id("clerk-hours")
forbid (
  principal in Sekisho::Role::"clerk",
  action in [Sekisho::Action::"create", Sekisho::Action::"update"],
  resource
)
when { context.hour < 7 || context.hour >= 21 };
CEDAR

page= logins=
if [ -n "${SEKISHO_LOGINS:-}" ]; then
  page='login_page = true'
  # A thousand people at once, whom nobody knows, at twenty devices.
  people='[login]
device_failures = 0
site_failures = 0
device_attempts_per_minute = 1000000
site_attempts_per_minute = 1000000
address_attempts_per_minute = 1000000'
  [ "$SEKISHO_LOGINS" = people ] || people=
  logins=$people'
[account]
notice_en = "bench"
[[route]]
name = "login"
path = "/0"
service = "origin"
class = "bench"
kind = "generic"
rules = [{ methods = ["GET"], path = "/**", action = "read", effect = "read-only" }]
login = { account = { query = "u" }, success = { status = [204] }, session = { cookies = ["sid"], unknown = "forward" } }'
fi

tunnels=
if [ -n "${SEKISHO_TUNNELS:-}" ]; then
  inside_tls=
  [ "$SEKISHO_TUNNELS" = off ] || inside_tls='tls = { certificate_file = "tls/server.crt", key_file = "tls/server.key" }'
  tunnels='[[route]]
name = "uploads"
path = "/uploads"
service = "origin"
class = "uploads"
kind = "generic"
rules = [{ methods = ["PUT"], path = "/**", action = "create", effect = "changing" }]
[[listener]]
name = "tunnels"
kind = "wireguard"
address = "'$SEKISHO_TUNNELS_ADDRESS'"
server_names = ["bench.test", "10.64.0.1"]
'$inside_tls'
[listener.wireguard]
private_key_file = "tunnels.key"
endpoint = "'$SEKISHO_TUNNELS_ADDRESS'"
inside = ["10.64.0.1"]
ports = [443]
site_ranges = ["10.64.0.0/10"]
mtu = 1420
inside_tls = "'$SEKISHO_TUNNELS'"
[listener.limits]
body_bytes = 17179869184
request_timeout_ms = 600000'
  cat >> "$D/policy/bench.cedar" <<'CEDAR'
@id("engineer-uploads")
permit (
  principal in Sekisho::Role::"engineer",
  action == Sekisho::Action::"create",
  resource in Sekisho::InformationClass::"uploads"
);
CEDAR
fi

cat > "$D/sekisho.toml" <<TOML
[node]
name = "bench"
[trust]
domain = "bench.test"
[store]
file = "sekisho.db"
[audit]
directory = "audit"
durability = "${SEKISHO_DURABILITY:-before-answer}"
[clock]
on_alarm = "mark"
[policy]
directory = "policy"
[identity]
key_file = "identity.key"
[admin]
listen = "${SEKISHO_ADMIN:-127.0.0.1:9443}"
[log]
level = "warn"
[workers]
count = 1
[shutdown]
drain_s = 1
[[listener]]
name = "bench"
address = "$BENCH_LISTEN"
server_names = ["bench.test", "localhost", "127.0.0.1"]
tls = { certificate_file = "tls/server.crt", key_file = "tls/server.key", client_ca_file = "tls/devices-ca.crt" }
$page
[listener.limits]
connections = 16384
connections_per_address = 16384
handshakes = 8192
keepalive_timeout_ms = 3600000
h2_concurrent_streams = 256
[[service]]
name = "origin"
backends = ["http://$BENCH_UPSTREAM"]
idle_connections = 512
keepalive_ms = 3600000
[[route]]
name = "bench"
path = "/"
service = "origin"
class = "bench"
kind = "generic"
rules = [{ methods = ["GET"], path = "/**", action = "read", effect = "read-only" }]
$logins
$tunnels
TOML

# The registry, once.
registry() { "$SEKISHO_BIN" "$@" --store "$D/sekisho.db" > /dev/null; }
if [ ! -e "$D/registered" ]; then
  rm -rf "$D"/sekisho.db* "$D/audit"
  mkdir "$D/audit"
  registry site add bench
  registry role add engineer
  registry user add bench/alice --role engineer
  registry device add bench/alice --user alice
  if [ -n "${SEKISHO_LOGINS:-}" ]; then
    for number in $(seq 20); do
      registry site add "other-$number"
      registry user add "other-$number/ito" --role engineer
      registry device add "other-$number/one" --user ito
    done
  fi
  if [ -n "${SEKISHO_TUNNELS:-}" ]; then
    for number in $(seq "$SEKISHO_TUNNELS_SITES"); do
      registry site add "tunnel-$number"
      registry user add "tunnel-$number/ito" --role engineer
      "$SEKISHO_BIN" device add "tunnel-$number/one" --user ito --wireguard --config "$D/sekisho.toml" --out "$D/tunnel-$number.conf"
    done
  fi
  touch "$D/registered"
fi

# Who may open the records, once.
if [ ! -e "$D/reviewer.key" ]; then
  rm -rf "$D/audit-keys" "$D/audit-reviewers"
  echo "bench passphrase" > "$D/passphrase"
  chmod 600 "$D/passphrase"
  "$SEKISHO_BIN" audit reviewer new bench --out "$D/reviewer.key" --passphrase-file "$D/passphrase" > /dev/null
  "$SEKISHO_BIN" audit init --config "$D/sekisho.toml" --key "$D/reviewer.key" --passphrase-file "$D/passphrase" > /dev/null
fi

# The log of the run before would only fill the disk. Its files are emptied and stay until the whole run is over: for
# minutes after a removal ext4 passes over each freed inode, one by one, for every file that is made beside it.
mkdir -p "$D/discarded"
[ ! -d "$D/audit" ] || {
  find "$D/audit" -type f -exec truncate -s 0 {} +
  mv "$D/audit" "$D/discarded/$(date +%s.%N)"
}
mkdir "$D/audit"

# What the records' disk costs, once: appending, and writing over blocks that are there, as the audit log does.
if [ ! -s "$D/disk.txt" ]; then
  python3 - "$D" "$(df --output=fstype "$D/audit" | tail -1)" > "$D/disk.txt" <<'PY'
import os, statistics, sys, time
path = os.path.join(sys.argv[1], "audit", ".probe")
file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

def measure():
    os.lseek(file, 0, os.SEEK_SET)
    times = []
    for _ in range(200):
        os.write(file, b"x" * 4096)
        start = time.perf_counter()
        os.fdatasync(file)
        times.append((time.perf_counter() - start) * 1e6)
    cuts = statistics.quantiles(times, n=100)
    return f"p50 {cuts[49]:.0f} us, p99 {cuts[98]:.0f} us"

appended, over = measure(), measure()
os.close(file)
os.unlink(path)
print(f"audit log on {sys.argv[2]}; fdatasync of 4 KiB, 200 times: appended {appended}; over written blocks {over}")
PY
  cat "$D/disk.txt" >&2
fi

exec "$SEKISHO_BIN" run --config "$D/sekisho.toml" 2>> "$D/stderr.log"
