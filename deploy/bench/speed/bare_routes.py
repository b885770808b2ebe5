"""The least that a Python gateway can cost: `python -m deploy.bench.speed.bare_routes PORT TRITON MODEL FILE`.

A FastAPI app with the gateway's request model for texts and the flags that `gateway/__main__.py` gives uvicorn, but
without middleware, metrics, log lines or errors. `/ready` returns a finished response of 1,024 floats. `/grpc` makes
one bare grpc.aio call, always with the tokens in FILE, and serializes the floats that come back.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import grpc
import numpy as np
import orjson
import uvicorn
from fastapi import FastAPI
from numpy.typing import NDArray
from starlette.responses import Response
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.http.roboflow_wire import EmbedTextRequest
from gateway.triton import channel as channel_options

_FLOATS: Final = 1024


def make_app(triton: str, model: str, tokens: bytes) -> FastAPI:
    """Build the app with the two routes.

    Args:
        triton: gRPC address, host:port.
        model: a text model.
        tokens: of one text, little-endian int32.
    """
    stubs: list[service_pb2_grpc.GRPCInferenceServiceStub] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with grpc.aio.insecure_channel(triton, options=channel_options.OPTIONS) as channel:
            stubs.append(service_pb2_grpc.GRPCInferenceServiceStub(channel))
            yield

    app = FastAPI(lifespan=lifespan)
    values = np.random.default_rng(0).standard_normal(_FLOATS) / np.sqrt(_FLOATS)
    ready = _body(values.astype(np.float32))
    length = len(tokens) // 4

    @app.post("/ready")
    async def return_finished(wire: EmbedTextRequest) -> Response:
        return Response(ready, media_type="application/json")

    @app.post("/grpc")
    async def call_triton(wire: EmbedTextRequest) -> Response:
        request = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[tokens])
        request.inputs.add(name="tokens", datatype="INT32", shape=[1, length])
        request.outputs.add(name="embedding")
        reply = await stubs[0].ModelInfer(request)
        return Response(_body(np.frombuffer(reply.raw_output_contents[0], np.float32)), media_type="application/json")

    return app


def _body(embedding: NDArray[np.float32]) -> bytes:
    value = {"inference_id": None, "frame_id": None, "time": 0.001, "embeddings": embedding[None]}
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


if __name__ == "__main__":
    port, triton, model, file = sys.argv[1:]
    uvicorn.run(
        make_app(triton, model, Path(file).read_bytes()),
        host="127.0.0.1",
        port=int(port),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
    )
