#!/usr/bin/python3
"""OpenStack Swift of Debian with its S3 interface (`s3api`), one storage node, in a folder of its own.

    s3_server.py FOLDER HOST PORT [CERTIFICATE KEY]      S3 on PORT, the rest on ports behind it

The access key is `test:tester`, the secret `testing`. It prints `ready`, and serves until its standard input ends.
"""

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import threading
import time

RUN = """
import sys
import swift.common.utils as utils
utils.SWIFT_CONF_FILE = sys.argv[1]
from swift.common.wsgi import run_wsgi
sys.exit(run_wsgi(sys.argv[2], sys.argv[3]))
"""

STORAGE = """
[DEFAULT]
devices = {folder}/node
mount_check = false
swift_dir = {folder}
bind_ip = {host}
bind_port = {port}
workers = 0
user = {user}
log_level = ERROR
# One node on a loaded machine: what is slow is waited for. Otherwise a list lacks for good what was acknowledged.
container_update_timeout = 50
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
conn_timeout = 20
node_timeout = 50
"""

PROXY = """
[DEFAULT]
swift_dir = {folder}
bind_ip = {host}
bind_port = {port}
workers = 0
user = {user}
log_level = ERROR
[pipeline:main]
pipeline = catch_errors gatekeeper cache s3api tempauth slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
conn_timeout = 20
node_timeout = 50
recoverable_node_timeout = 50
error_suppression_limit = 1000000
account_autocreate = true
allow_account_management = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = {host}:{cache}
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


def ring(folder, kind, host, port):
    from swift.common.ring import RingBuilder

    builder = RingBuilder(4, 1, 0)
    builder.add_dev(
        {"id": 0, "region": 1, "zone": 1, "weight": 1.0, "ip": host, "port": port, "device": "d1"}
        | {"replication_ip": host, "replication_port": port, "meta": ""}
    )
    builder.rebalance()
    builder.get_ring().save(f"{folder}/{kind}.ring.gz")


def answers(host, port):
    try:
        socket.create_connection((host, port), timeout=1).close()
        return True
    except OSError:
        return False


def terminate(host, port, behind, certificate, key):
    """Ends TLS, and passes everything on."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def pump(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def passes(reader, writer):
        try:
            inner = await asyncio.open_connection(host, behind)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, inner[1]), pump(inner[0], writer))

    async def serve():
        server = await asyncio.start_server(passes, host, port, ssl=context)
        await server.serve_forever()

    asyncio.run(serve())


def main():
    folder, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    user = __import__("pwd").getpwuid(os.getuid()).pw_name
    os.makedirs(f"{folder}/node/d1", exist_ok=True)
    os.makedirs(f"{folder}/run", exist_ok=True)
    with open(f"{folder}/swift.conf", "w") as file:
        file.write("[swift-hash]\nswift_hash_path_suffix = suffix\nswift_hash_path_prefix = prefix\n")
        file.write("[storage-policy:0]\nname = one\ndefault = yes\n")
    tls = sys.argv[4:6]
    # With TLS, Swift itself stands behind what ends it, as its manual wants it.
    servers = [("proxy", port + 5 if tls else port)]
    for offset, kind in enumerate(("account", "container", "object"), 1):
        servers.append((kind, port + offset))
    import swift.common.utils as utils

    utils.SWIFT_CONF_FILE = f"{folder}/swift.conf"
    running = []
    for kind, at in servers:
        text = PROXY if kind == "proxy" else STORAGE
        with open(f"{folder}/{kind}.conf", "w") as file:
            file.write(text.format(folder=folder, host=host, port=at, user=user, kind=kind, cache=port + 4))
        if kind != "proxy" and not os.path.exists(f"{folder}/{kind}.ring.gz"):
            ring(folder, kind, host, at)
    cache = ["memcached", "-l", host, "-p", str(port + 4), "-U", "0", "-u", user]
    running.append(subprocess.Popen(cache, stdin=subprocess.DEVNULL))
    for kind, _ in reversed(servers):
        log = open(f"{folder}/{kind}.log", "ab")
        command = [sys.executable, "-c", RUN, f"{folder}/swift.conf", f"{folder}/{kind}.conf", f"{kind}-server"]
        running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
    try:
        end = time.monotonic() + 120
        while not all(answers(host, at) for _, at in [*servers, ("cache", port + 4)]):
            if any(process.poll() is not None for process in running) or time.monotonic() > end:
                sys.exit("swift does not start; see its logs")
            time.sleep(0.1)
        if tls:
            threading.Thread(target=terminate, args=(host, port, port + 5, *tls), daemon=True).start()
            while not answers(host, port):
                time.sleep(0.1)
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


main()
