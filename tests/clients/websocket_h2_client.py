"""A client of WebSockets over HTTP/2 (RFC 8441), by PyPI h2: URI CA CERTIFICATE KEY [JSON]. The JSON may change fields of the extended
CONNECT, null removing them. Says how the handshake went, then does what each line of its input says, and tells what came of it."""

import json
import os
import socket
import ssl
import sys
from urllib.parse import urlsplit

import h2.connection
import h2.events
import h2.settings
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

uri, ca, certificate, key, *changes = sys.argv[1:]
parts = urlsplit(uri)
context = ssl.create_default_context(cafile=ca)
context.load_cert_chain(certificate, key)
context.set_alpn_protocols(["h2"])
tcp = socket.create_connection((parts.hostname, parts.port), timeout=60)
tcp = context.wrap_socket(tcp, server_hostname=parts.hostname)
connection = h2.connection.H2Connection()
connection.initiate_connection()
tcp.sendall(connection.data_to_send())
STREAM = 1
state = {"status": None, "settings": False, "ended": False, "reset": None, "window": False}
reader = StreamReader()
body = b""


def say(**what):
    print(json.dumps(what), flush=True)


def turn():
    """Takes what comes; False once the connection is over."""
    global body
    try:
        received = tcp.recv(65536)
    except (ConnectionError, ssl.SSLError):
        received = b""
    if not received:
        state["ended"] = True
        return False
    for event in connection.receive_data(received):
        match event:
            case h2.events.RemoteSettingsChanged():
                state["settings"] = True
            case h2.events.ResponseReceived():
                state["status"] = int(dict(event.headers)[b":status"])
            case h2.events.DataReceived():
                if state["status"] == 200:
                    reader.feed_data(event.data)
                body += event.data
                if event.flow_controlled_length:
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                state["ended"] = True
            case h2.events.StreamReset():
                state["ended"], state["reset"] = True, int(event.error_code)
            case h2.events.ConnectionTerminated():
                state["ended"] = True
    tcp.sendall(connection.data_to_send())
    return True


def send(data, end=False):
    while data:
        window = min(connection.local_flow_control_window(STREAM), connection.max_outbound_frame_size)
        if window <= 0:
            turn()
            continue
        connection.send_data(STREAM, data[:window])
        data = data[window:]
        tcp.sendall(connection.data_to_send())
    if end:
        connection.end_stream(STREAM)
        tcp.sendall(connection.data_to_send())


def receive():
    """The next frame of the WebSocket; None once the stream has ended."""
    parser = Frame.parse(reader.read_exact, mask=False)
    while True:
        try:
            next(parser)
        except StopIteration as done:
            return done.value
        if state["ended"] or not turn():
            return None


while not state["settings"] and turn():
    pass
enabled = connection.remote_settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL, 0)
fields = {
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":scheme": "https",
    ":authority": parts.netloc,
    ":path": parts.path + ("?" + parts.query if parts.query else ""),
    "sec-websocket-version": "13",
    "sec-websocket-protocol": "chart.v2",
}
fields.update(json.loads(changes[0]) if changes else {})
connection.config.validate_outbound_headers = False
connection.send_headers(STREAM, [(name, value) for name, value in fields.items() if value is not None])
tcp.sendall(connection.data_to_send())
while state["status"] is None and not state["ended"] and turn():
    pass
if state["status"] != 200:
    while not state["ended"] and turn():
        pass
    say(enabled=enabled, status=state["status"], body=body.decode(), reset=state["reset"])
    sys.exit()
say(enabled=enabled, status=200)
for line in sys.stdin:
    order = json.loads(line)
    match order["do"]:
        case "echo":
            send(Frame(Opcode.TEXT, order["text"].encode()).serialize(mask=True))
            frame = receive()
            say(text=frame.data.decode() if frame else None)
        case "bulk":
            message = os.urandom(order["size"])
            for _ in range(order["count"]):
                send(Frame(Opcode.BINARY, message).serialize(mask=True))
            say(same=all(receive().data == message for _ in range(order["count"])))
        case "raw":
            send(order["text"].encode(), end=order.get("end", False))
            while not state["ended"] and turn():
                pass
            say(body=body.decode(), reset=state["reset"])
        case "other":
            # Another request on the same connection, while the tunnel stays open.
            connection.send_headers(3, [(":method", "GET"), (":scheme", "https"), (":authority", parts.netloc), (":path", order["path"])], end_stream=True)
            tcp.sendall(connection.data_to_send())
            state["status"] = None
            while state["status"] is None and turn():
                pass
            say(status=state["status"])
            state["status"], state["ended"] = 200, False
        case "wait":
            while not state["ended"] and turn():
                pass
            say(reset=state["reset"])
