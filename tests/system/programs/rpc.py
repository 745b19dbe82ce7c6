"""A gRPC server: ``a.Echo/Say`` echoes, ``a.Echo/Watch`` answers once and goes on for ever."""

import sys
import time
from collections.abc import Iterator
from concurrent import futures

import grpc


def watch(message: bytes, _context: object) -> Iterator[bytes]:
    yield message
    time.sleep(3600)


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]
    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method == "/a.Echo/Say":
            return grpc.unary_unary_rpc_method_handler(lambda message, _context: message)
        if details.method == "/a.Echo/Watch":
            return grpc.unary_stream_rpc_method_handler(watch)
        return None


server = grpc.server(futures.ThreadPoolExecutor(32))
server.add_generic_rpc_handlers((Echo(),))
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
