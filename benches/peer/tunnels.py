#!/usr/bin/env python3
"""Uploads of clinics by WireGuard: the gateway's CPU for each GiB, beside what boringtun-cli needs to receive as much.

    run.sh tunnels [--rounds N] [--mib M] [--sites S] [--inside off|required]

The clients are wireguard-go's, one for each site, on one core with the backend; what is measured has the other. The gateway ends the
tunnel, TCP, TLS inside where it is required, judges the upload and sends it on to a backend that reads it; boringtun-cli only
writes packets into its TUN device. Network namespaces and their addresses are those of the proxy benchmark's `wg/`.
"""
import argparse
import ast
import collections
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import types

import compare

GATEWAY = "198.18.0.2"
PORT = 51820
INSIDE = "10.64.0.1"
BACKEND = ("127.0.0.1", 9000)
# Reads a request's body to its end and answers.
SINK = """
import re, socketserver
class Handler(socketserver.StreamRequestHandler):
    rbufsize = 1 << 20
    def handle(self):
        buffer = bytearray(1 << 20)
        while line := self.rfile.readline():
            length = 0
            while line.strip():
                found = re.match(rb"(?i)content-length: *([0-9]+)", line)
                length = int(found[1]) if found else length
                line = self.rfile.readline()
            while length > 0:
                length -= self.rfile.readinto(memoryview(buffer)[:min(length, len(buffer))]) or length
            self.wfile.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
Server(("%s", %d), Handler).serve_forever()
""" % BACKEND


def load(folder):
    """The functions of the benchmark of WireGuard as a module; its command line is left out."""
    path = os.path.join(folder, "wg", "wg_bench.py")
    with open(path) as file:
        tree = ast.parse(file.read(), path)
    begins = next(place for place, node in enumerate(tree.body) if "ArgumentParser" in ast.unparse(node) and isinstance(node, ast.Assign))
    tree.body = tree.body[:begins]
    module = types.ModuleType("wg_bench")
    module.__file__ = path
    exec(compile(tree, path, "exec"), module.__dict__)
    module.a = argparse.Namespace(cc="cubic")
    return module


def wait(what, condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise SystemExit(f"waited in vain for {what}")
        time.sleep(0.02)


def answers(wg, *command):
    return subprocess.run(["ip", "netns", "exec", *command], capture_output=True).returncode == 0


@contextlib.contextmanager
def gateway(wg, bench, inside, sites):
    """The gateway in its namespace, with a backend; gives its folder and process id."""
    name = f"sekisho-tunnels-{inside}-{sites}"
    folder = os.path.join(bench.OUT, "run", name)
    os.makedirs(folder, exist_ok=True)
    keys = os.path.join(bench.OUT, "pki", "p256")
    settings = {
        "BENCH_LISTEN": "127.0.0.1:8443", "BENCH_UPSTREAM": "%s:%d" % BACKEND, "BENCH_CERT": f"{keys}/server.crt",
        "BENCH_KEY": f"{keys}/server.key", "BENCH_CA": f"{keys}/ca.crt", "BENCH_DIR": folder, "SEKISHO_TUNNELS": inside,
        "SEKISHO_TUNNELS_ADDRESS": f"{GATEWAY}:{PORT}", "SEKISHO_TUNNELS_SITES": str(sites),
    }
    sink = wg.spawn("bwgB", "1", [sys.executable, "-c", SINK])
    with open(os.path.join(folder, "gateway.log"), "w") as log:
        process = wg.spawn("bwgB", "0", ["bash", os.path.join(compare.HERE, "sekisho.sh")], settings, stdout=log, stderr=log)
    try:
        ready = ["bwgB", "curl", "-sf", "http://127.0.0.1:9443/readyz"]
        wait(f"the gateway; see {folder}/gateway.log", lambda: process.poll() is not None or answers(wg, *ready), 180)
        if process.poll() is not None:
            raise SystemExit(f"the gateway ended; see {folder}/gateway.log")
        yield folder, process.pid
    finally:
        wg.kill(process)
        wg.kill(sink)


def client(wg, folder, number):
    """A site's tunnel, by the configuration that the gateway made for it; gives the interface's name."""
    device = f"wgA{number}"
    daemon = wg.spawn("bwgA", "1", ["wireguard-go", "-f", device], {"LOG_LEVEL": "error", "WG_PROCESS_FOREGROUND": "1"})
    wait(device, lambda: os.path.exists(f"/var/run/wireguard/{device}.sock"))
    with open(os.path.join(folder, f"tunnel-{number}.conf")) as file:
        text = file.read()
    address = re.search(r"(?m)^Address *= *(\S+)", text)[1].split(",")[0]
    stripped = "\n".join(line for line in text.splitlines() if not re.match(r"(Address|MTU|DNS) *=", line))
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(stripped + "\n")
        file.flush()
        wg.sh(f"ip netns exec bwgA wg setconf {device} {file.name}")
    wg.sh(f"ip -n bwgA addr add {address} dev {device}")
    wg.sh(f"ip -n bwgA link set {device} mtu 1420 up")
    wg.sh(f"ip -n bwgA route add {INSIDE}/32 dev {device} metric {number}")
    return device, daemon


def uploads(wg, bench, inside, sites, mib):
    """CPU seconds of the gateway for each GiB, and Gbit/s."""
    wg.up()
    try:
        with gateway(wg, bench, inside, sites) as (folder, pid), tempfile.TemporaryDirectory() as scratch:
            devices = [client(wg, folder, number)[0] for number in range(1, sites + 1)]
            size = mib * 2**20 // sites
            with open(os.path.join(scratch, "file"), "wb") as file:
                file.truncate(size)
            scheme = "http" if inside == "off" else "https"
            port = 443
            host = [f"{scheme}://bench.test:{port}/uploads/file", "--resolve", f"bench.test:{port}:{INSIDE}", "--cacert",
                    f"{bench.OUT}/pki/p256/ca.crt", "--http1.1", "-sf", "-H", "Expect:", "-o", "/dev/null"]
            curl = lambda device, path: ["ip", "netns", "exec", "bwgA", "taskset", "-c", "1", "curl", "--interface", device,
                                         "-T", path, *host]
            # Everybody has shaken hands.
            for device in devices:
                subprocess.run(curl(device, "/dev/null"), check=True, timeout=60)
            before, begun = wg.cpu(pid), time.time()
            running = [subprocess.Popen(curl(device, os.path.join(scratch, "file"))) for device in devices]
            for one in running:
                if one.wait(timeout=600) != 0:
                    raise SystemExit(f"an upload failed: curl says {one.returncode}; see {folder}/gateway.log")
            took = time.time() - begun
            gib = size * sites / 2**30
            return (wg.cpu(pid) - before) / gib, gib * 8.59 / took
    finally:
        wg.down()


def received(wg, secs):
    """CPU seconds of boringtun-cli for each GiB, and Gbit/s."""
    wg.up()
    try:
        daemons = {side: wg.wg_daemon(side, kind, core) for side, kind, core in (("A", "go", "1"), ("B", "boringtun", "0"))}
        (private, public), (other, theirs) = wg.keys(), wg.keys()
        for side, key, peer, endpoint, own in (("A", private, theirs, GATEWAY, "198.19.0.1"), ("B", other, public, "198.18.0.1", "198.19.0.2")):
            with tempfile.NamedTemporaryFile("w") as file:
                file.write(key)
                file.flush()
                wg.sh(f"ip netns exec bwg{side} wg set wg{side}b private-key {file.name} listen-port {PORT} peer {peer} "
                      f"endpoint {endpoint}:{PORT} allowed-ips 198.19.0.0/24")
            wg.sh(f"ip -n bwg{side} addr add {own}/24 dev wg{side}b")
            wg.sh(f"ip -n bwg{side} link set wg{side}b mtu 1420 up")
        wg.sh("ip netns exec bwgA ping -c 2 -i 0.2 -W 2 198.19.0.2")
        row = wg.iperf(False, secs, "198.19.0.2", {"B": daemons["B"]})
        return row["B_cpu_s_per_gib"], row["gbit_s"]
    finally:
        wg.down()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--secs", type=int, default=6, help="seconds that boringtun-cli receives (6)")
    parser.add_argument("--sites", type=int, default=1)
    parser.add_argument("--inside", default="off,required")
    options = parser.parse_args()
    for tool in ("wireguard-go", "wg", "iperf3", "curl", "ip"):
        if shutil.which(tool) is None:
            parser.error(f"`{tool}` is not installed")
    bench = compare.load(os.environ["SEKISHO_BENCH"])
    wg = load(os.environ["SEKISHO_BENCH"])
    wg.down()
    if not os.path.exists(wg.BT):
        parser.error(f"`{wg.BT}` is not there; the proxy benchmark's setup.sh makes it")
    kinds = options.inside.split(",")
    figures = collections.defaultdict(list)
    for number in range(1, options.rounds + 1):
        for kind in ["boringtun", *kinds][:: 1 if number % 2 else -1]:
            cpu, rate = received(wg, options.secs) if kind == "boringtun" else uploads(wg, bench, kind, options.sites, options.mib)
            figures[kind].append(cpu)
            print(f"r{number} {kind}: {cpu:.2f} CPU s/GiB, {rate:.2f} Gbit/s", flush=True)
    theirs = figures["boringtun"]
    for kind in kinds:
        ratios = [ours / other for ours, other in zip(figures[kind], theirs)]
        bounds = compare.interval(ratios)
        print(f"inside_tls {kind}, {options.sites} sites: {compare.figure(figures[kind])} CPU s/GiB, boringtun-cli {compare.figure(theirs)}, "
              f"ratio {statistics.median(ratios):.3f} {[round(bound, 3) for bound in bounds or ()]}, target 0.35")


if __name__ == "__main__":
    sys.exit(main())
