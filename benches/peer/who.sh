#!/usr/bin/env bash
# who.sh DIR [N]   the newest N (5) records of requests in DIR/audit: whom they name, and what was decided
set -euo pipefail
exec python3 - "$1/audit" "${2:-5}" <<'PY'
import collections, glob, json, struct, sys

SEGMENT_HEADER, FRAME_HEADER = 256, 56  # gateway/audit/src/frame.rs

def records(path):
    with open(path, "rb") as file:
        data = file.read()
    at = SEGMENT_HEADER
    while at + FRAME_HEADER <= len(data):
        (length,) = struct.unpack_from("<I", data, at)
        if length == 0:
            return
        yield data[at + FRAME_HEADER : at + FRAME_HEADER + length]
        at += FRAME_HEADER + length

newest = collections.deque(maxlen=int(sys.argv[2]))
for path in sorted(glob.glob(sys.argv[1] + "/segment-*.log"), reverse=True):
    newest.extend(record for record in records(path) if b'"kind":"request"' in record)
    if newest:
        break
for line in newest:
    r = json.loads(line)
    c = r["connection"]
    print(r["sequence"], r["time"], f'{c["site"]}/{c["device"]}', r.get("user"), ",".join(r.get("roles", [])),
          r["method"], r["target"], r["decision"], ",".join(r.get("policies", [])), r["status"])
sys.exit(0 if newest else 1)
PY
