#!/usr/bin/env python3
"""Many WireGuard peers, and floods of forged handshakes: the gateway's memory for each peer, and an upload's speed meanwhile.

    run.sh peers [--registered N] [--active M] [--secs S] [--rounds R]

All on loopback: the gateway has one core; clients, flood and backend have the other. Half of the rounds flood a socket that nobody reads, so
that what the flood takes from the client is in both.
"""
import argparse
import collections
import contextlib
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time

import compare
import tunnels

ADDRESS = ("127.0.0.1", 51820)
INSIDE = f"{tunnels.INSIDE}:443"
ADMIN = "127.0.0.1:9443"
RATE = 50_000


@contextlib.contextmanager
def gateway(bench, name, registered):
    """The gateway with so many sites; gives its folder and process id."""
    folder = os.path.join(bench.OUT, "run", name)
    os.makedirs(folder, exist_ok=True)
    keys = os.path.join(bench.OUT, "pki", "p256")
    settings = {
        "BENCH_LISTEN": "127.0.0.1:8443", "BENCH_UPSTREAM": "%s:%d" % tunnels.BACKEND, "BENCH_CERT": f"{keys}/server.crt",
        "BENCH_KEY": f"{keys}/server.key", "BENCH_CA": f"{keys}/ca.crt", "BENCH_DIR": folder, "SEKISHO_TUNNELS": "off",
        "SEKISHO_TUNNELS_ADDRESS": "%s:%d" % ADDRESS, "SEKISHO_TUNNELS_SITES": str(registered), "SEKISHO_ADMIN": ADMIN,
    }
    sink = subprocess.Popen(["taskset", "-c", "1", sys.executable, "-c", tunnels.SINK])
    with open(os.path.join(folder, "gateway.log"), "w") as log:
        process = subprocess.Popen(["taskset", "-c", "0", "bash", os.path.join(compare.HERE, "sekisho.sh")], stdout=log, stderr=log,
                                   env={**os.environ, **settings})
    try:
        ready = lambda: subprocess.run(["curl", "-sf", "-o", "/dev/null", f"http://{ADMIN}/readyz"]).returncode == 0
        tunnels.wait(f"the gateway; see {folder}/gateway.log", lambda: process.poll() is not None or ready(), 3600)
        if process.poll() is not None:
            raise SystemExit(f"the gateway ended; see {folder}/gateway.log")
        yield folder, process.pid
    finally:
        for one in (process, sink):
            one.terminate()
            one.wait()


def resident(pid):
    """Bytes of memory that a process has."""
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"VmRSS:\s+(\d+) kB", file.read())[1]) * 1024


def metric(name):
    text = subprocess.run(["curl", "-sf", f"http://{ADMIN}/metrics"], capture_output=True, text=True, check=True).stdout
    return sum(float(value) for value in re.findall(rf"(?m)^{name}(?:{{.*}})? (\S+)$", text))


def run(clients, *arguments):
    return subprocess.Popen(["taskset", "-c", "1", clients, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def said(process):
    out = process.communicate()[0]
    if process.returncode != 0:
        raise SystemExit(f"the clients ended with {process.returncode}")
    return json.loads(out)


def memory(bench, clients, options):
    with gateway(bench, "sekisho-peers-1", 1) as (_, pid):
        time.sleep(2)
        alone = resident(pid)
    with gateway(bench, f"sekisho-peers-{options.registered}", options.registered) as (folder, pid):
        time.sleep(2)
        idle = resident(pid)
        print(f"{options.registered} registered: {(idle - alone) / (options.registered - 1) / 1024:.2f} KiB for each idle peer (at most 8); "
              f"{alone / 2**20:.1f} MiB with one, {idle / 2**20:.1f} MiB with all", flush=True)
        asking = run(clients, "ask", folder, INSIDE, options.active, options.secs)
        time.sleep(10 + options.secs / 2)
        busy, buffers, up = resident(pid), metric("sekisho_tunnel_buffer_bytes"), metric("sekisho_tunnel_peers_up")
        answers = said(asking)
        print(f"{up:.0f} active, one request a second each: {(busy - idle) / max(up, 1) / 1024:.1f} KiB for each (at most 64 and buffers in use), "
              f"of which TCP's buffers may take {buffers / max(up, 1) / 1024:.1f}; {answers}", flush=True)


def floods(bench, clients, options):
    decoy = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    decoy.bind(("127.0.0.1", 0))
    ratios = collections.defaultdict(list)
    with gateway(bench, "sekisho-peers-1", 1) as (folder, pid):
        with open(os.path.join(folder, "tunnel-1.conf")) as file:
            key = re.search(r"(?m)^PublicKey = (\S+)", file.read())[1]

        def speed(kind, target):
            flood = run(clients, "flood", "%s:%d" % target, key, RATE, options.flood_secs + 2, kind)
            time.sleep(1)
            sending = run(clients, "send", folder, INSIDE, options.flood_secs)
            speed = said(sending)["mib_per_s"]
            return speed, said(flood)["per_s"]

        for number in range(1, options.rounds + 1):
            for kind in ("valid", "wrong", "noise"):
                both = {}
                for at in (("gateway", ADDRESS), ("nobody", decoy.getsockname()))[:: 1 if number % 2 else -1]:
                    both[at[0]] = speed(kind, at[1])
                ratios[kind].append(both["gateway"][0] / both["nobody"][0])
                print(f"r{number} {kind}: {both['gateway'][0]:.1f} MiB/s under {both['gateway'][1]:.0f} a second, {both['nobody'][0]:.1f} beside it", flush=True)
    for kind, of in ratios.items():
        bounds = compare.interval(of)
        print(f"flood of {RATE} a second, {kind} mac1: an established site keeps {statistics.median(of):.2f} {[round(bound, 2) for bound in bounds or ()]} of its speed "
              f"(at least 0.80)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--registered", type=int, default=10_000)
    parser.add_argument("--active", type=int, default=1_000)
    parser.add_argument("--secs", type=int, default=60)
    parser.add_argument("--flood-secs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--what", default="memory,floods")
    options = parser.parse_args()
    clients = os.environ["TUNNEL_CLIENTS"]
    bench = compare.load(os.environ["SEKISHO_BENCH"])
    if "memory" in options.what:
        memory(bench, clients, options)
    if "floods" in options.what:
        floods(bench, clients, options)


if __name__ == "__main__":
    sys.exit(main())
