"""An identity provider for tests: JWKS, introspection, discovery and codes over HTTP, orders by lines of JSON.

    python idp.py [CERTIFICATE KEY [CA]]

With a CA whoever asks shows a certificate of it, and needs no secret.

The first line of output is its port. Then each line of input is an order, answered by one line:
  {"mint": claims, "key": name, "alg": name, "headers": {…}}   a token, made by PyJWT
  {"publish": [names]}      which keys the JWKS has from now on; a new name makes a key (`rsa…` RSA, `ed…` Ed25519, else P-256)
  {"jwks": status}          with what status it answers about keys
  {"tokens": {token: claims}, "introspect": status}             what it says of opaque tokens
  {"document": {…}}         what it says of itself, at /.well-known/openid-configuration; 404 before
  {"answer": [status, {…}]} what it gives for a code, at /token
  {"exchanged": true}       what it was last asked for a code: [Authorization, form, how often]
  {"hold": whether}         whether answers about opaque tokens wait until that is over
  {"count": true}           how often it was asked: [keys, introspections]
"""

import base64
import hmac
import json
import ssl
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

keys = {}
state = {"published": [], "jwks": 200, "introspect": 200, "tokens": {}, "count": [0, 0], "document": None}
state |= {"answer": [500, {}], "exchanged": ["", {}, 0]}

released = threading.Event()
released.set()


def key(name):
    if name not in keys:
        if name.startswith("rsa"):
            keys[name] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        elif name.startswith("ed"):
            keys[name] = ed25519.Ed25519PrivateKey.generate()
        else:
            keys[name] = ec.generate_private_key(ec.SECP256R1())
    return keys[name]


def jwk(name):
    private = key(name)
    if isinstance(private, rsa.RSAPrivateKey):
        found = RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        found = OKPAlgorithm.to_jwk(private.public_key(), as_dict=True)
    else:
        found = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    found.pop("key_ops", None)
    return {**found, "kid": name, "use": "sig"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path.endswith("/.well-known/openid-configuration"):
            return self.answer(200 if state["document"] else 404, state["document"])
        state["count"][0] += 1
        self.answer(state["jwks"], {"keys": [jwk(name) for name in state["published"]]})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path == "/token":
            form = urllib.parse.parse_qs(body)
            state["exchanged"] = [self.headers.get("Authorization", ""), form, state["exchanged"][2] + 1]
            return self.answer(*state["answer"])
        state["count"][1] += 1
        released.wait()
        credentials = base64.b64encode(b"gateway:s3cret%2B").decode()
        if len(sys.argv) <= 3 and self.headers.get("Authorization") != f"Basic {credentials}":
            return self.answer(401, {"error": "invalid_client"})
        token = urllib.parse.parse_qs(body)["token"][0]
        claims = state["tokens"].get(token)
        self.answer(state["introspect"], {"active": True, **claims} if claims else {"active": False})


def forge(order, algorithm):
    """What PyJWT refuses to make: no signature, or an HMAC by the public key."""

    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    header = {"alg": algorithm, "typ": "at+jwt", "kid": order["key"]}
    message = ".".join(part(json.dumps(value).encode()) for value in (header, order["mint"]))
    public = key(order["key"]).public_key()
    secret = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signature = hmac.digest(secret, message.encode(), "sha256") if algorithm == "HS256" else b""
    return f"{message}.{part(signature)}"


def obey(order):
    if "mint" in order:
        algorithm = order.get("alg", "ES256")
        if algorithm in ("none", "HS256"):
            return forge(order, algorithm)
        headers = {"typ": "at+jwt", "kid": order["key"], **order.get("headers", {})}
        return jwt.encode(order["mint"], key(order["key"]), algorithm=algorithm, headers=headers)
    if "publish" in order:
        for name in order["publish"]:
            key(name)
        state["published"] = order["publish"]
    if "hold" in order:
        released.clear() if order["hold"] else released.set()
    if "exchanged" in order:
        return state["exchanged"]
    for name in ("jwks", "introspect", "tokens", "document", "answer"):
        if name in order:
            state[name] = order[name]
    return state["count"]


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    if len(sys.argv) > 3:
        context.load_verify_locations(sys.argv[3])
        context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
for line in sys.stdin:
    print(json.dumps(obey(json.loads(line))), flush=True)
