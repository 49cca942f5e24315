"""A WebSocket server (PyPI websockets). Says its address. `/ws/echo` echoes, and tells the handshake's fields to whoever says
`headers`; `/ws/bye` ends with 4001 at the first message; `/ws/push/COUNT/SIZE` sends so many messages of so many bytes before it
echoes. Ends with its input."""

import json
import sys
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve


def messages(connection):
    try:
        yield from connection
    except ConnectionClosed:
        pass


def choose(connection, offers):
    return "chart.v2" if "chart.v2" in offers else None


def handle(connection):
    path = connection.request.path.split("?")[0].split("/")
    if path[2] == "push":
        for _ in range(int(path[3])):
            connection.send(b"x" * int(path[4]))
    for message in messages(connection):
        if path[2] == "bye":
            connection.close(4001, "bye")
            return
        if message == "headers":
            message = json.dumps([[name.lower(), value] for name, value in connection.request.headers.raw_items()])
        connection.send(message)


with serve(handle, "127.0.0.1", 0, subprotocols=["chart.v2"], select_subprotocol=choose, max_size=None) as server:
    print("%s:%d" % server.socket.getsockname(), flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
