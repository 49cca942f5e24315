#!/usr/bin/env python3
"""What logins and sessions cost, beside requests that have nothing to do with them: Sekisho against itself.

    run.sh logins session [--rounds N] [--secs S]    CPU per request with a session and without one, alternating
    run.sh logins hashes [--rounds N] [--secs S]     p99 of other requests while 1,000 people log in to the gateway itself, and
                                                     while as many ask for a page at once
    run.sh logins flood [--secs S] [--rate N]        logins of 20 other sites while one site guesses, and without

Run by `run.sh logins`. The gateway has one core, everything else the other one.
"""
import argparse
import asyncio
import collections
import contextlib
import json
import os
import re
import shlex
import ssl
import statistics
import subprocess
import sys
import time

import compare

NAME = "sekisho-logins"
SITES = 20
# Requests a second beside which people log in.
BESIDE = 1000


class Given(str):
    """Arguments of the load generator that no blank divides."""

    def split(self):
        return json.loads(self)


def given(*arguments):
    return Given(json.dumps(arguments))


def with_cookie(path, cookie):
    """A path that ends its request line, so that a field follows."""
    return f"{path} HTTP/1.1\r\nCookie: {cookie}\r\nX-Rest: "


def identity(bench, number):
    """Certificate and key of a device of another site."""
    pki = f"{bench.OUT}/pki/p256"
    key, certificate = f"{pki}/other-{number}.key", f"{pki}/other-{number}.crt"
    if not os.path.exists(certificate):
        run = lambda *command, **more: subprocess.run(command, check=True, capture_output=True, **more)
        run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
            "-subj", "/CN=other", "-out", f"{key}.csr")
        extensions = f"{key}.cnf"
        with open(extensions, "w") as file:
            file.write("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n"
                       f"subjectAltName=URI:spiffe://bench.test/site/other-{number}/device/one\n")
        run("openssl", "x509", "-req", "-in", f"{key}.csr", "-CA", f"{pki}/ca.crt", "-CAkey", f"{pki}/ca.key",
            "-set_serial", str(100 + number), "-days", "825", "-extfile", extensions, "-out", certificate)
    return certificate, key


async def connect(bench, certificate, key):
    context = ssl.create_default_context(cafile=f"{bench.OUT}/pki/p256/ca.crt")
    context.load_cert_chain(certificate, key)
    host, port = bench.addr(bench.LISTEN)
    return await asyncio.open_connection(host, port, ssl=context, server_hostname="bench.test")


async def ask(stream, head, body=b""):
    """Status, head and body of one answer."""
    reader, writer = stream
    writer.write(head.encode() + b"\r\n" + body)
    answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = re.search(r"(?i)^content-length: *(\d+)", answer, re.M)
    content = await reader.readexactly(int(length[1])) if length else b""
    return int(answer.split(" ", 2)[1]), answer, content


@contextlib.contextmanager
def gateway(bench):
    proxy, _, _ = bench.start_proxy(NAME, bench.PEERS[NAME], "p256")
    try:
        yield proxy
    finally:
        bench.stop(proxy)


def own(bench):
    return f"{bench.OUT}/pki/p256/client.crt", f"{bench.OUT}/pki/p256/client.key"


def load(bench, secs, *arguments):
    """The load generator, under way."""
    command = ["taskset", "-c", bench.LOAD_CORE, bench.LG, *arguments, *bench.pki_args("p256"), "--pids", "1", "--core",
               bench.PROXY_CORE, "--warmup", "1", "--duration", str(secs)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def session(bench, options):
    """Both kinds of request in one process of the gateway, which takes turns."""
    rows = collections.defaultdict(dict)
    write = bench.emit

    def emit(**row):
        write(**row)
        if "proxy_us_per_req" in row["r"]:
            rows[row["round"]][row["cell"]] = row["r"]["proxy_us_per_req"]
            if row["r"].get("errors") or row["r"].get("non2xx"):
                raise SystemExit(f"requests failed: {row}")

    bench.emit = emit
    bench.CELLS["without"] = ("p256", "h1 --conns 64 --path /1k")
    bench.CELLS["with"] = ("p256", given("h1", "--conns", "64", "--path", with_cookie("/1k", "sid=secret-of-alice")))

    async def begin():
        stream = await connect(bench, *own(bench))
        # The backend goes on with what the login came with.
        status, head, _ = await ask(stream, "GET /0?u=alice HTTP/1.1\r\nHost: bench.test\r\nCookie: sid=secret-of-alice\r\n")
        assert status == 204, head

    with gateway(bench):
        asyncio.run(begin())
        time.sleep(1)
    for number in range(1, options.rounds + 1):
        bench.one_round(NAME, bench.PEERS[NAME], ["without", "with"][:: 1 if number % 2 else -1], number, options.secs)
    pairs = [(row["with"], row["without"]) for row in rows.values()]
    ratios = [a / b for a, b in pairs]
    bounds = compare.interval(ratios)
    print(f"without a session {compare.figure([b for _, b in pairs])} us, with one {compare.figure([a for a, _ in pairs])} us, "
          f"ratio {statistics.median(ratios):.3f} {[round(bound, 3) for bound in bounds or ()]}, {len(pairs)} pairs, target 1.05")
    store = f"{bench.OUT}/run/{NAME}/sekisho.toml"
    shown = subprocess.run([os.environ["SEKISHO_BIN"], "session", "list", "--config", store], capture_output=True, text=True)
    print(shown.stdout or shown.stderr)


def hashes(bench, options):
    """p99 of requests at a fixed rate: alone, while 1,000 people ask for the login page at once, and while they send account and
    password at once."""

    async def person(number):
        stream = await connect(bench, *identity(bench, number % SITES + 1))
        asking = "GET /.sekisho/login HTTP/1.1\r\nHost: bench.test\r\n"
        _, _, page = await ask(stream, asking)
        token = re.search(rb'name="csrf" value="([^"]+)"', page)[1].decode()
        body = f"csrf={token}&account=user-{number}&password=not+the+password".encode()
        head = ("POST /.sekisho/login HTTP/1.1\r\nHost: bench.test\r\nOrigin: https://bench.test\r\n"
                f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n")
        return {"page": (stream, asking), "logins": (stream, head, body)}

    kinds = ["alone", "page", "logins"]
    figures = {kind: [] for kind in kinds}
    statuses = collections.Counter()
    for number in range(1, options.rounds + 1):
        for kind in kinds[:: 1 if number % 2 else -1]:
            with gateway(bench):
                async def measure():
                    people = [await person(number) for number in range(1000)]
                    generator = load(bench, options.secs, "h1", "--conns", "16", "--path", "/1k", "--rate", str(BESIDE))
                    await asyncio.sleep(1.5)
                    if kind != "alone":
                        answers = await asyncio.gather(*(ask(*one[kind]) for one in people))
                        if kind == "logins":
                            statuses.update(status for status, _, _ in answers)
                    out = await asyncio.to_thread(generator.communicate)
                    return json.loads(out[0])
                figures[kind].append(asyncio.run(measure())["p99_us"])
        print(f"r{number} p99", {kind: values[-1] for kind, values in figures.items()}, flush=True)
    for kind, other in (("page", "alone"), ("logins", "alone"), ("logins", "page")):
        ratios = [a / b for a, b in zip(figures[kind], figures[other])]
        bounds = compare.interval(ratios)
        print(f"p99 {other} {compare.figure(figures[other])} us, {kind} {compare.figure(figures[kind])} us, ratio "
              f"{statistics.median(ratios):.2f} {[round(bound, 2) for bound in bounds or ()]}")
    print(f"target of logins beside alone 1.2; answers {dict(statuses)}")


def flood(bench, options):
    """Logins of other sites, each device once a second, alone and beside a site that guesses."""

    async def others(until, times, statuses):
        async def one(number):
            stream = await connect(bench, *identity(bench, number))
            await asyncio.sleep(number / SITES)
            while time.monotonic() < until:
                begun = time.monotonic()
                status, _, _ = await ask(stream, "GET /0?u=ito HTTP/1.1\r\nHost: bench.test\r\n")
                times.append((time.monotonic() - begun) * 1e3)
                statuses[status] += 1
                await asyncio.sleep(max(0.0, begun + 1.01 - time.monotonic()))
        await asyncio.gather(*(one(number) for number in range(1, SITES + 1)))

    for kind in ("alone", "beside"):
        times, statuses = [], collections.Counter()
        with gateway(bench):
            generator = None
            if kind == "beside":
                generator = load(bench, options.secs + 2, "h1", "--conns", "64", "--path", "/0/wrong?u=alice", "--rate",
                                 str(options.rate))
            asyncio.run(others(time.monotonic() + options.secs, times, statuses))
            guessed = json.loads(generator.communicate()[0]) if generator else None
        cuts = statistics.quantiles(times, n=1000)
        good = statuses[204] / sum(statuses.values())
        print(f"{kind}: {sum(statuses.values())} logins of {SITES} sites, {good:.2%} right, p50 {cuts[499]:.1f} ms, "
              f"p99 {cuts[989]:.1f} ms, {dict(statuses)}; guesses {guessed and guessed['rps']} a second")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["session", "hashes", "flood"])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--secs", type=float, default=6)
    parser.add_argument("--rate", type=int, default=20_000, help="wrong logins a second (20,000)")
    options = parser.parse_args()
    bench = compare.load(os.environ["SEKISHO_BENCH"])
    ours = shlex.quote(os.path.join(compare.HERE, "sekisho.sh"))
    kind = "people" if options.what == "hashes" else "guesses"
    bench.PEERS[NAME] = f"SEKISHO_LOGINS={kind} SEKISHO_BIN={shlex.quote(os.environ['SEKISHO_BIN'])} {ours}"
    os.sched_setaffinity(0, {int(bench.LOAD_CORE)})
    os.makedirs(bench.OUT, exist_ok=True)
    origin = bench.start_origin()
    try:
        {"session": session, "hashes": hashes, "flood": flood}[options.what](bench, options)
    finally:
        bench.stop(origin)


if __name__ == "__main__":
    sys.exit(main())
