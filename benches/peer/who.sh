#!/usr/bin/env bash
# who.sh DIR [N]   the newest N (5) records of requests in DIR/audit: whom they name, and what was decided
set -euo pipefail
: "${SEKISHO_BIN:=target/release/sekisho}"
"$SEKISHO_BIN" audit show --config "$1/sekisho.toml" --key "$1/reviewer.key" --passphrase-file "$1/passphrase" \
  --json --last 1000 | python3 -c '
import collections, json, sys

records = (json.loads(line) for line in sys.stdin)
newest = collections.deque((r for r in records if r["kind"] == "request"), maxlen=int(sys.argv[1]))
for r in newest:
    c = r["connection"]
    print(r["sequence"], r["time"], "{}/{}".format(c["site"], c["device"]), r.get("user"), ",".join(r.get("roles", [])),
          r["method"], r["target"], r["decision"], ",".join(r.get("policies", [])), r["status"])
sys.exit(0 if newest else 1)
' "${2:-5}"
