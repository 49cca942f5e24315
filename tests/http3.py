"""A client of HTTP/3 that does as it is told, line by line: JSON in, JSON out. Well-behaved by aioquic, and otherwise by hand.

usage: http3.py HOST PORT CA [CERTIFICATE KEY]
"""

import asyncio
import json
import ssl
import sys
import time

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import (
    ConnectionTerminated,
    HandshakeCompleted,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)

PATIENCE = 60


class Http(H3Connection):
    """aioquic's, which does not know that an answer to HEAD has a length and no body."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.heads = set()

    def _check_content_length(self, stream):
        if stream.stream_id not in self.heads:
            super()._check_content_length(stream)


class Client(QuicConnectionProtocol):
    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.http = None
        self.streams = {}
        self.ended = None
        self.resumed = False
        self.tickets = []
        self.control = b""
        self.news = asyncio.Event()

    def of(self, stream):
        return self.streams.setdefault(stream, {"status": 0, "headers": {}, "bytes": 0, "sum": 0, "text": b"", "done": False})

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            self.resumed = event.session_resumed
        elif isinstance(event, ConnectionTerminated):
            self.ended = {"code": event.error_code, "application": event.frame_type is None, "reason": event.reason_phrase}
        elif isinstance(event, StreamReset):
            self.of(event.stream_id).update(reset=event.error_code, done=True)
        elif isinstance(event, StopSendingReceived):
            self.of(event.stream_id)["stopped"] = event.error_code
        elif isinstance(event, StreamDataReceived) and event.stream_id == 3:
            self.control += event.data
        if self.http is not None and self.ended is None:
            for got in self.http.handle_event(event):
                if not isinstance(got, (HeadersReceived, DataReceived)):
                    continue
                stream = self.of(got.stream_id)
                if isinstance(got, HeadersReceived):
                    fields = {name.decode(): value.decode() for name, value in got.headers}
                    if ":status" in fields:
                        stream["status"] = int(fields.pop(":status"))
                        stream["headers"] = fields
                    else:
                        stream["trailers"] = fields
                else:
                    stream["bytes"] += len(got.data)
                    if len(stream["text"]) < 4096:
                        stream["text"] += got.data
                if got.stream_ended:
                    stream["done"] = True
        self.news.set()

    async def until(self, there, patience=PATIENCE):
        end = time.monotonic() + patience
        while not there():
            left = end - time.monotonic()
            if left <= 0:
                return False
            self.news.clear()
            try:
                await asyncio.wait_for(self.news.wait(), left)
            except asyncio.TimeoutError:
                return there()
        return True


def varint(value):
    for size, prefix in ((6, 0), (14, 1), (30, 2), (62, 3)):
        if value < 1 << size:
            return ((prefix << size) | value).to_bytes((size + 2) // 8, "big")
    raise ValueError(value)


def goaways(control):
    """The ids of GOAWAY frames on the server's control stream."""
    ids, at = [], 1

    def number():
        nonlocal at
        length = 1 << (control[at] >> 6)
        value = int.from_bytes(control[at : at + length], "big") & ((1 << (8 * length - 2)) - 1)
        at += length
        return value

    try:
        while at < len(control):
            kind, length = number(), number()
            if kind == 7:
                before = at
                ids.append(number())
                at = before
            at += length
    except IndexError:
        pass
    return ids


class Session:
    def __init__(self, host, port, ca, certificate, key):
        self.place = (host, port)
        self.files = (ca, certificate, key)
        self.ticket = None
        self.client = None
        self.context = None

    async def open(self, order):
        configuration = QuicConfiguration(is_client=True, alpn_protocols=order.get("alpn", H3_ALPN))
        configuration.server_name = order.get("server_name", "localhost")
        ca, certificate, key = self.files
        configuration.load_verify_locations(ca)
        if certificate and order.get("certificate", True):
            configuration.load_cert_chain(certificate, key)
        configuration.idle_timeout = 120
        if order.get("resume"):
            configuration.session_ticket = self.ticket
        if "max_data" in order:
            configuration.max_data = configuration.max_stream_data = order["max_data"]
        made = connect(
            *self.place,
            configuration=configuration,
            create_protocol=Client,
            session_ticket_handler=lambda ticket: setattr(self, "ticket", ticket),
            wait_connected=False,
        )
        self.context = made
        client = await made.__aenter__()
        self.client = client
        if order.get("http", True):
            client.http = Http(client._quic)
        client.transmit()
        begun = time.monotonic()
        try:
            await asyncio.wait_for(client.wait_connected(), PATIENCE)
        except (ConnectionError, asyncio.TimeoutError):
            return {"ok": False, "ended": client.ended}
        # A server's last word on a certificate comes after the client takes itself for connected.
        await client.until(lambda: client.ended or client.control, order.get("patience", PATIENCE))
        retried = client._quic._retry_count if hasattr(client._quic, "_retry_count") else None
        local = client._transport.get_extra_info("sockname")[:2]
        return {
            "ok": client.ended is None,
            "ended": client.ended,
            "resumed": client.resumed,
            "retried": bool(client._quic._retry_source_connection_id) if retried is None else bool(retried),
            "early": client._quic.tls.early_data_accepted,
            "local": list(local),
            "took": time.monotonic() - begun,
        }

    def fields(self, order):
        host = order.get("authority", f"localhost:{self.place[1]}")
        pseudo = [(":method", order.get("method", "GET")), (":scheme", "https"), (":authority", host), (":path", order["path"])]
        pseudo = [(name.encode(), value.encode()) for name, value in order.get("pseudo", pseudo)]
        return pseudo + [(name.encode(), value.encode()) for name, value in order.get("fields", [])]

    async def begin(self, order):
        """Begins a request: `body` bytes of it are sent, and its end if `end`."""
        client = self.client
        stream = client._quic.get_next_available_stream_id()
        body, end = order.get("body", 0), order.get("end", True)
        if order.get("method") == "HEAD":
            client.http.heads.add(stream)
        client.http.send_headers(stream, self.fields(order), end_stream=end and not body and "data" not in order)
        if "data" in order:
            client.http.send_data(stream, order["data"].encode(), end_stream=end)
        while body > 0:
            piece = min(body, 65536)
            body -= piece
            try:
                client.http.send_data(stream, b"x" * piece, end_stream=end and body == 0)
            except RuntimeError:
                # The server would have no more of it, and has said so.
                break
            client.transmit()
            # As much as has left, so that a long body is not held here. No event tells of acknowledgements.
            while buffered(client, stream) > 1 << 20 and not client.ended and not client.of(stream)["done"]:
                await asyncio.sleep(0.002)
            if client.ended or client.of(stream)["done"]:
                break
        client.of(stream)
        client.transmit()
        return {"stream": stream}

    async def finish(self, order):
        """Waits for a request's answer."""
        client, stream = self.client, order["stream"]
        if not await client.until(lambda: client.of(stream)["done"] or client.ended, order.get("patience", PATIENCE)):
            return {"late": True, **told(client.of(stream))}
        return {"ended": client.ended, **told(client.of(stream))}

    async def get(self, order):
        return await self.finish(await self.begin(order))

    async def raw(self, order):
        """Sends bytes on a new stream, and waits for its end or the connection's."""
        client = self.client
        if order.get("kind") == "uni":
            stream = client._quic.get_next_available_stream_id(is_unidirectional=True)
        elif order.get("kind") == "control":
            stream = 2
        else:
            stream = client._quic.get_next_available_stream_id()
        for _ in range(order.get("times", 1)):
            client._quic.send_stream_data(stream, bytes.fromhex(order["hex"]))
        if order.get("end"):
            client._quic.send_stream_data(stream, b"", end_stream=True)
        if "reset" in order:
            client._quic.reset_stream(stream, order["reset"])
        client.transmit()
        return await self.finish({"stream": stream, "patience": order.get("patience", PATIENCE)})

    async def storm(self, order):
        """Begins many requests, and resets each at once, until the connection is closed."""
        client, sent = self.client, 0
        while sent < order["count"] and client.ended is None:
            for _ in range(order.get("at_once", 10)):
                stream = client._quic.get_next_available_stream_id()
                if order.get("head", True):
                    client.http.send_headers(stream, self.fields(order), end_stream=False)
                else:
                    client._quic.send_stream_data(stream, b"")
                client._quic.reset_stream(stream, 0x10C)
                sent += 1
            client.transmit()
            await asyncio.sleep(0.005)
        await client.until(lambda: client.ended, order.get("patience", 5))
        return {"sent": sent, "ended": client.ended}

    async def flood(self, order):
        """Begins as many requests as it may, none of which ends."""
        client, streams = self.client, []
        for _ in range(order["count"]):
            stream = client._quic.get_next_available_stream_id()
            client.http.send_headers(stream, self.fields(order), end_stream=False)
            streams.append(stream)
        client.transmit()
        await asyncio.sleep(order.get("seconds", 1))
        blocked = sum(client._quic._streams[stream].is_blocked for stream in streams if stream in client._quic._streams)
        return {"begun": len(streams), "blocked": blocked, "ended": client.ended}

    async def migrate(self, _):
        """Goes on from another port."""
        client = self.client
        loop = asyncio.get_running_loop()
        old = client._transport
        transport, _ = await loop.create_datagram_endpoint(lambda: client, local_addr=("::", 0) if ":" in old.get_extra_info("sockname")[0] else ("127.0.0.1", 0))
        client._transport = transport
        client._quic.change_connection_id()
        await client.ping()
        return {"from": list(old.get_extra_info("sockname")[:2]), "to": list(transport.get_extra_info("sockname")[:2])}

    async def closed(self, order):
        await self.client.until(lambda: self.client.ended, order.get("patience", PATIENCE))
        return {"ended": self.client.ended, "goaways": goaways(self.client.control)}

    async def close(self, _):
        self.client.close(error_code=0x100)
        return {}


def buffered(client, stream):
    known = client._quic._streams.get(stream)
    return len(known.sender._buffer) if known else 0


def told(stream):
    return {**{key: value for key, value in stream.items() if key != "text"}, "text": stream["text"].decode(errors="replace")}


async def main():
    host, port, ca, *own = sys.argv[1:]
    session = Session(host, int(port), ca, *(own or (None, None)))
    loop = asyncio.get_running_loop()
    while True:
        line = await loop.run_in_executor(None, sys.stdin.readline)
        if not line:
            return
        order = json.loads(line)
        answer = await getattr(session, order["do"])(order)
        print(json.dumps(answer), flush=True)


asyncio.run(main())
