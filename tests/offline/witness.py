#!/usr/bin/env python3
"""A witness of our own (C2SP tlog-witness), written from the specification's page. It shares no code with the gateway.

    witness.py --state FILE --name NAME --seed HEX --logs FILE [--listen HOST:PORT]

FILE of --logs holds verifier keys, one a line. It prints `key <verifier key>` and `listening <port>`, and then serves
POST /add-checkpoint and GET /<SHA-256 of the origin>/checkpoint. What it signed last of each log is in the state file
before it answers. How it misbehaves is read from FILE.mode for each request; without that file it does not.
"""

import argparse
import base64
import hashlib
import http.server
import json
import os
import struct
import threading
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def continues(old, old_root, size, root, proof):
    """RFC 6962, 2.1.2, by its recursive definition."""
    proof = list(proof)
    if old == 0:
        return not proof
    if old == size:
        return not proof and old_root == root

    def take():
        if not proof:
            raise ValueError
        return proof.pop()

    def sub(m, n, whole):
        if m == n:
            hash_ = old_root if whole else take()
            return hash_, hash_
        k = 1
        while k * 2 < n:
            k *= 2
        if m <= k:
            right = take()
            before, after = sub(m, k, whole)
            return before, node(after, right)
        left = take()
        before, after = sub(m - k, n - k, False)
        return node(left, before), node(left, after)

    try:
        before, after = sub(old, size, True)
    except ValueError:
        return False
    return not proof and before == old_root and after == root


class Refused(Exception):
    def __init__(self, status, body=b"", kind="text/plain"):
        super().__init__(status)
        self.status, self.body, self.kind = status, body, kind


class Witness:
    def __init__(self, arguments):
        self.state_file, self.name = arguments.state, arguments.name
        self.key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(arguments.seed))
        public = self.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.id = hashlib.sha256(self.name.encode() + b"\n\x04" + public).digest()[:4]
        self.verifier = self.name + "+" + self.id.hex() + "+" + base64.b64encode(b"\x04" + public).decode()
        self.lock = threading.Lock()
        self.logs = {}
        with open(arguments.logs) as file:
            for line in file.read().split():
                name, key_id, key = line.split("+", 2)
                self.logs[name] = (bytes.fromhex(key_id), base64.b64decode(key)[1:])
        self.state = {}
        if os.path.exists(self.state_file):
            with open(self.state_file) as file:
                self.state = json.load(file)

    def mode(self):
        try:
            with open(self.state_file + ".mode") as file:
                return file.read().strip()
        except FileNotFoundError:
            return ""

    def keep(self):
        with open(self.state_file + ".next", "w") as file:
            json.dump(self.state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(self.state_file + ".next", self.state_file)

    def cosign(self, text, moment=None):
        moment = int(time.time()) if moment is None else moment
        message = b"cosignature/v1\ntime %d\n" % moment + text.encode()
        signature = self.id + struct.pack(">Q", moment) + self.key.sign(message)
        return "\u2014 " + self.name + " " + base64.b64encode(signature).decode() + "\n"

    def add(self, body):
        try:
            head, checkpoint = body.decode().split("\n\n", 1)
            lines = head.split("\n")
            old = int(lines[0].removeprefix("old "))
            if lines[0] != f"old {old}" or len(lines) > 64:
                raise ValueError
            proof = [base64.b64decode(line, validate=True) for line in lines[1:]]
            text, signatures = checkpoint.split("\n\n", 1)
            text += "\n"
            origin, size, root = text.split("\n")[:3]
            size, root = int(size), base64.b64decode(root, validate=True)
        except ValueError as error:
            raise Refused(400) from error
        if origin not in self.logs:
            raise Refused(404)
        key_id, public = self.logs[origin]
        signed = False
        for line in signatures.strip("\n").split("\n"):
            _, name, data = line.split(" ")
            data = base64.b64decode(data)
            if name == origin and data[:4] == key_id:
                try:
                    ed25519.Ed25519PublicKey.from_public_bytes(public).verify(data[4:], text.encode())
                    signed = True
                except InvalidSignature as error:
                    raise Refused(403) from error
        if not signed:
            raise Refused(403)
        if old > size:
            raise Refused(400)
        last = self.state.get(origin, {"size": 0})
        if last["size"] != old:
            raise Refused(409, b"%d\n" % last["size"], "text/x.tlog.size")
        if size == 0 and root != hashlib.sha256(b"").digest():
            raise Refused(422)
        if not continues(old, base64.b64decode(last.get("root", "")), size, root, proof):
            raise Refused(422)
        line = self.cosign(text)
        own = "".join(line + "\n" for line in signatures.strip("\n").split("\n") if line.split(" ")[1] == origin)
        self.state[origin] = {
            "size": size,
            "root": base64.b64encode(root).decode(),
            "note": text + "\n" + own + line,
            "before": last.get("note", ""),
        }
        self.keep()
        return self.misbehave(origin, text, line)

    def misbehave(self, origin, text, line):
        mode = self.mode()
        if mode == "garbage":
            return "<html>\u2014 this is not a signature</html>\n"
        if mode == "older":
            before = self.state[origin]["before"]
            return self.cosign(before.split("\n\n", 1)[0] + "\n") if before else ""
        if mode == "other-key":
            keep, self.key = self.key, ed25519.Ed25519PrivateKey.generate()
            line, self.key = self.cosign(text), keep
        if mode == "future":
            return self.cosign(text, int(time.time()) + 100_000)
        return line


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    witness = None

    def answer(self, status, body, kind="text/plain; charset=utf-8"):
        body = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        mode = self.witness.mode()
        if self.path != "/add-checkpoint":
            return self.answer(404, "")
        if mode == "conflict":
            return self.answer(409, "7\n", "text/x.tlog.size")
        if mode == "conflict-without-size":
            return self.answer(409, "no\n")
        if mode == "broken":
            return self.answer(500, "")
        try:
            # Two requests are never between question and answer at once.
            with self.witness.lock:
                lines = self.witness.add(body)
            return self.answer(200, lines)
        except Refused as refused:
            return self.answer(refused.status, refused.body, refused.kind)

    def do_GET(self):
        for origin, last in self.witness.state.items():
            if self.path == "/" + hashlib.sha256(origin.encode()).hexdigest() + "/checkpoint":
                return self.answer(200, last["note"])
        return self.answer(404, "")

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser()
    for name in ("--state", "--name", "--seed", "--logs"):
        parser.add_argument(name, required=True)
    parser.add_argument("--listen", default="127.0.0.1:0")
    arguments = parser.parse_args()
    Handler.witness = Witness(arguments)
    host, port = arguments.listen.rsplit(":", 1)
    server = http.server.ThreadingHTTPServer((host, int(port)), Handler)
    print("key", Handler.witness.verifier, flush=True)
    print("listening", server.server_address[1], flush=True)
    server.serve_forever()


main()
