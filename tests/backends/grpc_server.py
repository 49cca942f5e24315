"""A gRPC server with the standard health service. Says its address; each line on standard input is a status to take:
`NAME SERVING`, `NAME NOT_SERVING` (NAME `-` for the whole server). Answers `ok` to each. Ends with its input."""

import sys
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
servicer = health.HealthServicer()
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"127.0.0.1:{port}", flush=True)
for line in sys.stdin:
    name, status = line.split()
    servicer.set("" if name == "-" else name, health_pb2.HealthCheckResponse.ServingStatus.Value(status))
    print("ok", flush=True)
server.stop(0)
