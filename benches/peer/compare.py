#!/usr/bin/env python3
"""Alternating rounds of Sekisho and another proxy, and the paired ratios of their CPU per request.

Drives the proxy benchmark in SEKISHO_BENCH (see run.sh) without changing it. Each round measures every cell once with
each of the two; who begins changes from round to round. A cell's figure is the median of the rounds' ratios with the
interval between two order statistics that holds the true median with at least 95 %.
"""
import argparse
import ast
import collections
import json
import math
import os
import shlex
import signal
import statistics
import sys
import types

HERE = os.path.dirname(os.path.abspath(__file__))
OURS = "sekisho"
# What each cell's ratio to nginx may be. It is met if the interval's upper end is at most SLACK above.
TARGETS = {"h1_1k": 1.0, "h2_1k": 1.0, "h1_100k": 1.0, "hs_p256": 0.4}
SLACK = 0.03
# Below so many pairs there is no interval of 95 %.
LEAST_PAIRS = 6


def load(folder):
    """The benchmark's functions as a module; its command line is left out."""
    path = os.path.join(folder, "bench.py")
    with open(path) as file:
        tree = ast.parse(file.read(), path)
    tree.body = [
        node for node in tree.body if not (isinstance(node, ast.Expr) and ast.unparse(node) == "main()")
    ]
    module = types.ModuleType("bench")
    module.__file__ = path
    exec(compile(tree, path, "exec"), module.__dict__)
    return module


def interval(ratios):
    """The narrowest pair of order statistics that holds the median with at least 95 %, or None."""
    ratios = sorted(ratios)
    n = len(ratios)
    if n < LEAST_PAIRS:
        return None
    cumulated, low = 0.0, 0
    for k in range(n // 2):
        cumulated += math.comb(n, k) / 2**n
        if 2 * cumulated > 0.05:
            break
        low = k
    return ratios[low], ratios[n - 1 - low]


def figure(values):
    return f"{statistics.median(values):.1f} [{min(values):.1f}-{max(values):.1f}]"


def report(rows, cells, other):
    """Markdown, one row for each cell. Returns whether every cell has a pair and no request failed."""
    print(f"\n| cell | {other}, CPU µs/request | {OURS}, CPU µs/request | ratio | 95 % interval | pairs | target | met |")
    print("|---|---|---|---|---|---|---|---|")
    whole = True
    for cell in cells:
        measured = rows[cell]
        pairs = [m for m in measured.values() if other in m and OURS in m]
        failed = sum(r.get("errors", 0) + r.get("non2xx", 0) for m in measured.values() for r in m.values())
        if failed or not pairs:
            whole = False
        if not pairs:
            print(f"| {cell} | - | - | - | - | 0 | - | no |")
            continue
        theirs = [m[other]["proxy_us_per_req"] for m in pairs]
        ours = [m[OURS]["proxy_us_per_req"] for m in pairs]
        ratios = [a / b for a, b in zip(ours, theirs)]
        bounds = interval(ratios)
        target = TARGETS.get(cell) if other == "nginx" else None
        shown = f"{bounds[0]:.2f}-{bounds[1]:.2f}" if bounds else f"(min-max {min(ratios):.2f}-{max(ratios):.2f})"
        met = "-" if target is None or bounds is None else "yes" if bounds[1] <= target + SLACK else "no"
        note = f" ({failed} requests failed)" if failed else ""
        print(
            f"| {cell} | {figure(theirs)} | {figure(ours)} | **{statistics.median(ratios):.2f}** | {shown} "
            f"| {len(pairs)}{note} | {'-' if target is None else target} | {met} |"
        )
    return whole


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default=os.environ.get("SEKISHO_BENCH"), help="the proxy benchmark's folder")
    parser.add_argument("--against", default="nginx", help="a peer that the benchmark knows (nginx)")
    parser.add_argument("--build", metavar="FILE", help="instead of a peer, another build of the gateway")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--cells", default=",".join(TARGETS))
    parser.add_argument("--secs", type=float, default=6, help="measured seconds of each cell (6)")
    options = parser.parse_args()
    if not options.bench:
        parser.error("--bench or SEKISHO_BENCH must name the proxy benchmark's folder")
    bench = load(options.bench)
    cells = options.cells.split(",")
    binary = os.environ.get("SEKISHO_BIN")
    setting = f"SEKISHO_BIN={shlex.quote(binary)} " if binary else ""
    ours = shlex.quote(os.path.join(HERE, "sekisho.sh"))
    bench.PEERS[OURS] = f"{setting}{ours}"
    if options.build:
        options.against = os.path.basename(options.build)
        bench.PEERS[options.against] = f"SEKISHO_BIN={shlex.quote(os.path.abspath(options.build))} {ours}"
    rows = collections.defaultdict(lambda: collections.defaultdict(dict))
    write = bench.emit

    def emit(**row):
        write(**row)
        if row["cell"] in cells and "proxy_us_per_req" in row["r"]:
            rows[row["cell"]][row["round"]][row["name"]] = row["r"]

    bench.emit = emit
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.makedirs(bench.OUT, exist_ok=True)
    origin = bench.start_origin()
    try:
        for number in range(1, options.rounds + 1):
            for name in [options.against, OURS][:: 1 if number % 2 else -1]:
                try:
                    bench.one_round(name, bench.PEERS[name], cells, number, options.secs)
                except SystemExit as error:
                    print("FAILED", name, error, file=sys.stderr, flush=True)
    finally:
        bench.stop(origin)
    whole = report(rows, cells, options.against)
    with open(os.path.join(bench.OUT, "run", OURS, "disk.txt")) as file:
        print("\n" + file.read().strip())
    with open(os.path.join(bench.OUT, "pairs.json"), "w") as file:
        json.dump(rows, file, indent=1)
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    main()
