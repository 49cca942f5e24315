"""A WireGuard client without an interface: Noise by `noiseprotocol`, packets by scapy, TCP as little as it takes, TLS by OpenSSL.

It shares no code with the gateway, and it can misbehave. One argument, a JSON object: `endpoint` [host, port], `private`, `gateway_key` and
`shared` in Base64, `inside` (own address), `gateway` (the gateway's inside), `ca` (a file), `names` to ask DNS for. It prints one JSON
object of what it saw; an error ends it with a trace.
"""
import base64
import hashlib
import json
import random
import socket
import ssl
import struct
import sys
import time

from noise.connection import Keypair, NoiseConnection
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6

PATIENCE = 20
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def label_hash(label, key):
    return hashlib.blake2s(label + key).digest()


class Tunnel:
    """Datagrams and keys (the WireGuard paper, section 5.4)."""

    def __init__(self, arguments):
        family = socket.AF_INET6 if ":" in arguments["endpoint"][0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.connect(tuple(arguments["endpoint"]))
        self.private, self.gateway_key, self.shared = (base64.b64decode(arguments[key]) for key in ("private", "gateway_key", "shared"))
        self.ip = IPv6 if ":" in arguments["inside"] else IP
        self.inside, self.gateway = arguments["inside"], arguments["gateway"]
        self.handshake()

    def handshake(self):
        """A new session, as initiator."""
        noise = NoiseConnection.from_name(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
        noise.set_as_initiator()
        noise.set_psks(psk=self.shared)
        noise.set_prologue(b"WireGuard v1 zx2c4 Jason@zx2c4.com")
        noise.set_keypair_from_private_bytes(Keypair.STATIC, self.private)
        noise.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, self.gateway_key)
        noise.start_handshake()
        now = time.time_ns()
        timestamp = struct.pack(">QI", 0x400000000000000A + now // 10**9, now % 10**9)
        self.index = random.getrandbits(32)
        message = struct.pack("<II", 1, self.index) + bytes(noise.write_message(timestamp))
        mac1 = hashlib.blake2s(message, key=label_hash(b"mac1----", self.gateway_key), digest_size=16).digest()
        self.socket.send(message + mac1 + bytes(16))
        until = time.monotonic() + PATIENCE
        while True:
            answer = self.datagram(until)
            if answer[:4] == b"\x02\0\0\0" and struct.unpack_from("<I", answer, 8)[0] == self.index:
                break
        assert len(answer) == 92, len(answer)
        (self.theirs,) = struct.unpack_from("<I", answer, 4)
        noise.read_message(answer[12:60])
        state = noise.noise_protocol
        self.outgoing, self.incoming, self.counter = state.cipher_state_encrypt, state.cipher_state_decrypt, 0

    def datagram(self, until):
        self.socket.settimeout(max(until - time.monotonic(), 0.001))
        return self.socket.recv(2048)

    def seal(self, packet):
        """A packet as a datagram."""
        packet = bytes(packet)
        self.outgoing.set_nonce(self.counter)
        sealed = self.outgoing.encrypt_with_ad(b"", packet + bytes(-len(packet) % 16))
        self.counter += 1
        return struct.pack("<IIQ", 4, self.theirs, self.counter - 1) + bytes(sealed)

    def send(self, payload, **fields):
        """Sends what goes into an IP packet to the gateway."""
        self.socket.send(self.seal(self.ip(src=self.inside, dst=self.gateway, **fields) / payload))

    def receive(self, until):
        """The next packet that is not a keepalive."""
        while True:
            datagram = self.datagram(until)
            if datagram[:4] != b"\x04\0\0\0":
                continue
            index, counter = struct.unpack_from("<IQ", datagram, 4)
            assert index == self.index, "for another session"
            self.incoming.set_nonce(counter)
            packet = bytes(self.incoming.decrypt_with_ad(b"", datagram[16:]))
            if packet:
                return self.ip(packet)

    def ask(self, payload, kind, seconds=PATIENCE, **fields):
        """Sends, and gives the first packet of this kind that comes; `None` if none does."""
        until = time.monotonic() + seconds
        self.send(payload, **fields)
        try:
            while True:
                packet = self.receive(until)
                if kind in packet:
                    return packet
        except TimeoutError:
            return None


class Stream:
    """A TCP connection (RFC 9293) of which nothing gets lost: the path is this machine."""

    def __init__(self, tunnel, port, window=65535):
        self.tunnel, self.port, self.window = tunnel, port, window
        self.own, self.sent = random.randint(20000, 60000), random.getrandbits(31)
        answer = tunnel.ask(self.segment(SYN, options=[("MSS", 1280)]), TCP)
        assert int(answer[TCP].flags) & (SYN | ACK) == SYN | ACK, answer[TCP].flags
        self.sent += 1
        self.come, self.early, self.ended = answer[TCP].seq + 1, {}, False
        self.text = bytearray()
        tunnel.send(self.segment(ACK))

    def segment(self, flags, data=b"", at=None, **fields):
        ack = self.come if flags & ACK else 0
        at = self.sent if at is None else at
        return TCP(sport=self.own, dport=self.port, flags=flags, seq=at, ack=ack, window=self.window, **fields) / data

    def send(self, data):
        for start in range(0, len(data), 1200):
            piece = data[start:start + 1200]
            self.tunnel.send(self.segment(ACK | PSH, piece))
            self.sent += len(piece)

    def send_overlapping(self, data):
        """All of it, but with a second version of bytes that are there already."""
        half = len(data) // 2
        self.tunnel.send(self.segment(ACK | PSH, data[:half]))
        self.tunnel.send(self.segment(ACK | PSH, bytes(half // 2) + data[half:], at=self.sent + half - half // 2))
        self.sent += len(data)

    def send_early_first(self, data):
        """The second half before the first."""
        half = len(data) // 2
        self.tunnel.send(self.segment(ACK | PSH, data[half:], at=self.sent + half))
        self.tunnel.send(self.segment(ACK | PSH, data[:half]))
        self.sent += len(data)

    def read(self):
        """What comes next; nothing at the end."""
        until = time.monotonic() + PATIENCE
        while not self.text and not self.ended:
            packet = self.tunnel.receive(until)
            if TCP not in packet or packet[TCP].dport != self.own:
                continue
            segment = packet[TCP]
            assert not int(segment.flags) & RST, "the gateway reset the connection"
            data = bytes(segment.payload)[: packet_data(packet)]
            if data or int(segment.flags) & FIN:
                self.early[segment.seq] = (data, bool(int(segment.flags) & FIN))
            while self.come in self.early:
                data, last = self.early.pop(self.come)
                self.text += data
                self.come += len(data) + last
                self.ended |= last
            if data or self.ended:
                self.tunnel.send(self.segment(ACK))
        text, self.text = bytes(self.text), bytearray()
        return text


def packet_data(packet):
    """How many bytes of the packet are TCP's data: what follows is the tunnel's padding."""
    if IPv6 in packet:
        return packet[IPv6].plen - packet[TCP].dataofs * 4
    return packet[IP].len - packet[IP].ihl * 4 - packet[TCP].dataofs * 4


def get(stream, ca, target, how="send"):
    """A request with TLS: status and the length of the body. `how` the client's first flight is sent."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=ca)
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

    def run(action):
        nonlocal how
        while True:
            try:
                result = action()
            except ssl.SSLWantReadError:
                result = None
            if outgoing.pending:
                getattr(stream, how)(outgoing.read())
                how = "send"
            if result is not None:
                return result
            incoming.write(stream.read())

    run(lambda: tls.do_handshake() or True)
    run(lambda: tls.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()))
    text = b""
    while b"\r\n\r\n" not in text:
        text += run(lambda: tls.read(16384))
    head, body = text.split(b"\r\n\r\n", 1)
    length = int(next(line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")))
    while len(body) < length:
        body += run(lambda: tls.read(16384))
    return int(head.split()[1]), len(body)


def main():
    arguments = json.loads(sys.argv[1])
    ca = arguments["ca"]
    tunnel = Tunnel(arguments)
    seen = {}
    if tunnel.ip is IP:
        seen["echo"] = tunnel.ask(ICMP(id=7, seq=1) / b"are you there", ICMP) is not None
    else:
        seen["echo"] = tunnel.ask(ICMPv6EchoRequest(id=7, seq=1, data=b"are you there"), ICMPv6EchoReply) is not None

    # DNS, for the gateway's own names alone.
    kind = "A" if tunnel.ip is IP else "AAAA"
    seen["dns"] = {}
    for name in arguments["names"]:
        answer = tunnel.ask(UDP(sport=5353, dport=53) / DNS(rd=1, qd=DNSQR(qname=name, qtype=kind)), DNS)[DNS]
        seen["dns"][name] = [answer.rcode, [record.rdata for record in answer.an or []]]

    first = Stream(tunnel, 443)
    seen["plain"] = get(first, ca, "/fhir/Patient/1")
    seen["overlapping"] = get(Stream(tunnel, 443), ca, "/fhir/Patient/1", "send_overlapping")
    seen["early"] = get(Stream(tunnel, 443), ca, "/fhir/Patient/1", "send_early_first")
    seen["narrow"] = get(Stream(tunnel, 443, window=900), ca, "/fhir/Binary/some")

    # A reset from outside the window, as one who guesses would send it, changes nothing.
    stream = Stream(tunnel, 443)
    tunnel.send(stream.segment(RST, at=stream.sent + (1 << 24)))
    seen["reset"] = get(stream, ca, "/fhir/Patient/1")

    # What the gateway drops.
    replayed = tunnel.seal(b"")
    tunnel.socket.send(replayed)
    tunnel.socket.send(replayed)
    flipped = bytearray(tunnel.seal(tunnel.ip(src=tunnel.inside, dst=tunnel.gateway) / UDP()))
    flipped[-1] ^= 1
    tunnel.socket.send(flipped)
    if tunnel.ip is IP:
        tunnel.send(UDP(sport=1, dport=53) / bytes(24), flags="MF")
    seen["closed_port"] = tunnel.ask(TCP(sport=9, dport=444, flags="S"), TCP, seconds=1) is not None

    # A second session of the same key, after which everything goes on as before.
    time.sleep(0.1)
    tunnel.handshake()
    seen["again"] = get(Stream(tunnel, 443), ca, "/fhir/Patient/1")
    print(json.dumps(seen))


main()
