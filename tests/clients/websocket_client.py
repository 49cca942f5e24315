"""A WebSocket client (PyPI websockets) with a certificate: URI CA CERTIFICATE KEY [ORIGIN]. Says how the handshake went, then does
what each line of its input says and tells what came of it, all as JSON. Ends with its input."""

import json
import ssl
import sys

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect


def say(**what):
    print(json.dumps(what), flush=True)


uri, ca, certificate, key, *origin = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.load_cert_chain(certificate, key)
try:
    connection = connect(
        uri,
        ssl=context,
        origin=origin[0] if origin else None,
        subprotocols=["chart.v1", "chart.v2"],
        max_size=None,
        ping_interval=None,
    )
except InvalidStatus as refused:
    say(status=refused.response.status_code, body=refused.response.body.decode())
    sys.exit()
extensions = connection.response.headers.get("Sec-WebSocket-Extensions", "")
say(status=101, subprotocol=connection.subprotocol, extensions=extensions, id=connection.response.headers["X-Request-Id"])
for line in sys.stdin:
    order = json.loads(line)
    try:
        match order["do"]:
            case "echo":
                connection.send(order["text"])
                say(text=connection.recv())
            case "bulk":
                # All of it before anything is read: the two directions must not wait for each other.
                message = bytes(range(256)) * (order["size"] // 256)
                for _ in range(order["count"]):
                    connection.send(message)
                say(same=all(connection.recv() == message for _ in range(order["count"])))
            case "take":
                say(bytes=sum(len(connection.recv()) for _ in range(order["count"])))
            case "ping":
                say(pong=connection.ping().wait(60))
            case "close":
                connection.close(order["code"], "done")
                say(code=connection.close_code)
            case "wait":
                connection.recv()
                say(code=None)
    except ConnectionClosed as closed:
        say(code=closed.rcvd.code if closed.rcvd else 1006)
