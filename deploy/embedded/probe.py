"""One short request to our own gateway over HTTP or to our own Triton over gRPC, without proxies and redirects."""

import http.client
import json
from typing import Any, Final

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.triton import channel as channel_options

_TIMEOUT_SECONDS: Final = 2.0


def model_index(target: str) -> list[dict[str, str]] | None:
    """Ask a Triton for its models.

    Args:
        target: the gRPC target.

    Returns:
        Name, version, state and reason of each version of each model; None if there is no response in time.
    """
    # A channel of its own for each call: a kept one would wait up to half a second before it connects again.
    with grpc.insecure_channel(target, options=channel_options.OPTIONS) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            index = stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), timeout=_TIMEOUT_SECONDS)
        except grpc.RpcError:
            return None
    fields = ("name", "version", "state", "reason")
    return [{field: getattr(model, field) for field in fields} for model in index.models]


def request(method: str, host: str, port: int, path: str) -> tuple[int, Any] | None:
    """Send a request without a body.

    Returns:
        The status and the decoded JSON body (None if the body is not JSON); None if there is no response in time.
    """
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        status, body = response.status, response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    try:
        return status, json.loads(body)
    except ValueError:
        return status, None
