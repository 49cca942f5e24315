"""A gRPC server with the standard health service and `clinic.Echo`, also called `clinic.Slow`, whose messages are bytes: Unary, Stream (each of COUNT messages of
SIZE bytes, as `COUNT SIZE` asks), Collect (how many came, and their bytes), Chat (each as it comes) and Fail (`CODE MESSAGE`). Unary
tells what it got: `deadline` says how much time is left. Says its address; each line on standard input is a status to take: `NAME SERVING`,
`NAME NOT_SERVING` (NAME `-` for the whole server). Answers `ok` to each. Ends with its input."""

import sys
import time
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

CODES = {code.value[0]: code for code in grpc.StatusCode}


def unary(request, context):
    context.set_trailing_metadata((("x-served", "unary"), ("x-bytes-bin", b"\x00\xff")))
    if request == b"deadline":
        return str(context.time_remaining()).encode()
    if request == b"metadata":
        return repr(dict(context.invocation_metadata())).encode()
    if request.startswith(b"sleep "):
        time.sleep(float(request[6:]))
    return request


def stream(request, context):
    count, size = (int(part) for part in request.split())
    for _ in range(count):
        yield b"x" * size


def collect(requests, context):
    count = total = 0
    for request in requests:
        count, total = count + 1, total + len(request)
    return b"%d %d" % (count, total)


def chat(requests, context):
    for request in requests:
        yield b"re: " + request
    context.set_trailing_metadata((("x-served", "chat"),))


def fail(request, context):
    code, message = request.decode().split(" ", 1)
    context.set_trailing_metadata((("x-served", "fail"),))
    context.abort(CODES[int(code)], message)


server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=[("grpc.max_receive_message_length", -1)])
servicer = health.HealthServicer()
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
echo = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Stream": grpc.unary_stream_rpc_method_handler(stream),
    "Collect": grpc.stream_unary_rpc_method_handler(collect),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
}
for name in ("clinic.Echo", "clinic.Slow"):
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, echo),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"127.0.0.1:{port}", flush=True)
for line in sys.stdin:
    name, status = line.split()
    servicer.set("" if name == "-" else name, health_pb2.HealthCheckResponse.ServingStatus.Value(status))
    print("ok", flush=True)
server.stop(0)
