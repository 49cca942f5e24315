"""A real peer of HL7 v2 over MLLP for tests/mllp.rs.

peer.py hl7apy          serves on a port that it prints; prints each message's type and first patient
peer.py python-hl7      the same, by another package
peer.py send PORT FILE  sends the messages of FILE (one a line, \\r as /) and prints each answer's MSA
"""

import asyncio
import sys

import hl7
from hl7.client import MLLPClient
from hl7.mllp import start_hl7_server
from hl7apy.mllp import AbstractHandler, MLLPServer
from hl7apy.parser import parse_message


class Handler(AbstractHandler):
    def reply(self):
        message = parse_message(self.incoming_message, find_groups=False)
        print(message.msh.msh_9.to_er7(), message.pid.pid_3[0].cx_1.to_er7(), flush=True)
        control = message.msh.msh_10.to_er7()
        answer = "MSH|^~\\&|EHR|DC|LIS|SAKURA|20261123||ACK|A%s|P|2.5\rMSA|AA|%s\r" % (control, control)
        return "\x0b" + answer + "\x1c\r"


def hl7apy():
    types = ["ADT^A04^ADT_A01", "ADT^A08^ADT_A01", "ORU^R01^ORU_R01"]
    server = MLLPServer("127.0.0.1", 0, {name: (Handler,) for name in types}, timeout=60)
    print(server.server_address[1], flush=True)
    server.serve_forever()


async def python_hl7():
    async def serve(reader, writer):
        while not writer.is_closing():
            try:
                message = await reader.readmessage()
            except asyncio.IncompleteReadError:
                break
            print(message.segment("MSH")[9], message.segment("PID")[3][0][0], flush=True)
            writer.writemessage(message.create_ack("AA"))
            await writer.drain()
        writer.close()

    server = await start_hl7_server(serve, host="127.0.0.1", port=0, encoding="utf-8")
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def lines(file):
    return [line.rstrip("\n").replace("/", "\r") for line in open(file, encoding="utf-8")]


def send(port, messages):
    with MLLPClient("127.0.0.1", int(port), encoding="utf-8") as client:
        for message in messages:
            answer = hl7.parse(client.send_message(message).decode().strip("\x0b\x1c\r"))
            print(str(answer.segment("MSA")), flush=True)


def each(port, messages):
    for message in messages:
        send(port, [message])


if sys.argv[1] == "hl7apy":
    hl7apy()
elif sys.argv[1] == "python-hl7":
    asyncio.run(python_hl7())
else:
    {"send": send, "each": each}[sys.argv[1]](sys.argv[2], lines(sys.argv[3]))
