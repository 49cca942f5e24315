"""Sends messages of HL7 v2 with python-hl7, over TLS with a device's certificate; prints what MSA says to each, or how it ended.

hl7_sender.py PORT CA CERTIFICATE KEY all|each FILE     the file has a message a line, \\r as /
"""

import ssl
import sys

import hl7
from hl7.client import MLLPClient

port, ca, certificate, key, how, file = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.load_cert_chain(certificate, key)
messages = [line.rstrip("\n").replace("/", "\r") for line in open(file, encoding="utf-8")]


def send(messages):
    with MLLPClient("127.0.0.1", int(port), encoding="utf-8") as client:
        client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
        for message in messages:
            answer = client.send_message(message).decode().strip("\x0b\x1c\r")
            print(hl7.parse(answer).segment("MSA") if answer else "closed", flush=True)


if how == "all":
    send(messages)
else:
    for message in messages:
        send([message])
