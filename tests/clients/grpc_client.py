"""A gRPC client with a certificate: TARGET CA CERTIFICATE KEY. Does what each line of its input says, and tells what came of it, all as
JSON. Ends with its input."""

import json
import queue
import sys

import grpc

target, ca, certificate, key = sys.argv[1:]


def read(path):
    with open(path, "rb") as file:
        return file.read()


credentials = grpc.ssl_channel_credentials(read(ca), read(key), read(certificate))
channel = grpc.secure_channel(target, credentials, options=[("grpc.max_receive_message_length", -1)])


def say(**what):
    print(json.dumps(what), flush=True)


def ended(call, **what):
    trailers = {name: value if isinstance(value, str) else value.hex() for name, value in call.trailing_metadata() or ()}
    say(code=call.code().value[0], details=call.details(), trailers=trailers, **what)


for line in sys.stdin:
    order = json.loads(line)
    method, timeout = "/clinic.Echo/" + order.get("method", ""), order.get("timeout", 60)
    message = order.get("message", "").encode()
    try:
        match order["do"]:
            case "unary":
                answer, call = channel.unary_unary(order.get("path", method)).with_call(message, timeout=timeout)
                ended(call, answer=answer.decode())
            case "stream":
                call = channel.unary_stream(method)(message, timeout=timeout)
                sizes = [len(answer) for answer in call]
                ended(call, count=len(sizes), bytes=sum(sizes))
            case "collect":
                messages = (b"x" * order["size"] for _ in range(order["count"]))
                answer, call = channel.stream_unary(method).with_call(messages, timeout=timeout)
                ended(call, answer=answer.decode())
            case "chat":
                # Each is said only once the one before was answered.
                turns = queue.Queue()
                call = channel.stream_stream(method)(iter(turns.get, None), timeout=timeout)
                answers = []
                for number in range(order["count"]):
                    turns.put(b"%d" % number)
                    answers.append(next(call).decode())
                turns.put(None)
                assert next(call, None) is None
                ended(call, answers=answers)
    except grpc.RpcError as error:
        ended(error)
