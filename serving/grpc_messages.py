"""Reports gRPC messages that cannot be parsed as errors of the client.

gRPC's own server answers UNKNOWN, as for a fault of the server, logs a traceback, and calls
nothing that could count the request.
"""

import inspect
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from serving import tracing
from serving.errors import invalid_argument
from serving.request_log import RequestLog


class MessageReader(grpc.aio.ServerInterceptor):
    """Parses the messages of asynchronous methods that have one request and one answer.

    Place it after the other interceptors: it asks them for the handler of a call.

    Args:
      request_log: Records requests that cannot be parsed.
    """

    def __init__(self, request_log: RequestLog):
        self._request_log = request_log

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """See the base class."""
        handler = await continuation(details)
        if handler is None or not inspect.iscoroutinefunction(handler.unary_unary):
            return handler
        method = details.method.rsplit("/", 1)[-1]

        async def read_and_answer(message: bytes, context: grpc.aio.ServicerContext) -> Any:
            try:
                request = handler.request_deserializer(message)
            except DecodeError:
                error = invalid_argument(
                    f"The message of {len(message)} bytes cannot be parsed as a request of"
                    f" {method}; send the serialized protocol buffer"
                )
                with self._request_log.record("gRPC", method, "") as record:
                    record.fail(error)
                tracing.return_to(context)
                await context.abort(error.code, error.message)
            return await handler.unary_unary(request, context)

        # Without a deserializer, the method receives the raw bytes.
        return grpc.unary_unary_rpc_method_handler(
            read_and_answer, response_serializer=handler.response_serializer
        )
