"""The least that a Python gateway can cost: `python -m deploy.bench.speed.bare_routes PORT TRITON MODEL FILE DIM`.

A FastAPI app with the gateway's request model for texts and the flags that `gateway/__main__.py` gives uvicorn, but
without middleware, metrics, log lines or errors. `/ready` returns a finished response of 1,024 floats. `/grpc` makes
one bare grpc.aio call, always with the tokens in FILE, and serializes the floats that come back. `/text` also does what
every gateway for texts has to do: tokenize, fill a cache, keep a deadline, check the reply, count and log. It calls the
gateway's own functions for it, one after another, without the gateway's layers.
"""

import asyncio
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import grpc
import numpy as np
import orjson
import uvicorn
from fastapi import FastAPI, Request
from numpy.typing import NDArray
from starlette.responses import Response
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.encoder import EncoderSpec, TowerSpec
from gateway.http.roboflow_wire import EmbedTextRequest
from gateway.observe import access_log, logs
from gateway.observe.access_log import FinishedRequest
from gateway.observe.metrics import Metrics
from gateway.observe.stages import Stages
from gateway.texts.cache import TextCache, TextEmbedding
from gateway.texts.tokenizer import Tokenizer
from gateway.triton import channel as channel_options
from gateway.triton.connection import Connection

_FLOATS: Final = 1024
_DEADLINE_S: Final = 30.0


def make_app(triton: str, model: str, tokens: bytes, embed_dim: int) -> FastAPI:
    """Build the app with the two routes.

    Args:
        triton: gRPC address, host:port.
        model: a text model.
        tokens: of one text, little-endian int32.
        embed_dim: the numbers of an embedding.
    """
    stubs: list[service_pb2_grpc.GRPCInferenceServiceStub] = []
    connections: list[Connection] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with grpc.aio.insecure_channel(triton, options=channel_options.OPTIONS) as channel:
            stubs.append(service_pb2_grpc.GRPCInferenceServiceStub(channel))
            connections.append(Connection(triton))
            yield
            await connections[0].close(0)

    app = FastAPI(lifespan=lifespan)
    values = np.random.default_rng(0).standard_normal(_FLOATS) / np.sqrt(_FLOATS)
    ready = _body(values.astype(np.float32))
    length = len(tokens) // 4
    spec = EncoderSpec("bare", (1, 1), (length,), embed_dim, TowerSpec(1), TowerSpec(1))
    tokenizer, cache = Tokenizer(length), TextCache(64 * 2**20)
    metrics = Metrics(cache)

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

    @app.post("/text")
    async def embed_text(wire: EmbedTextRequest, request: Request) -> Response:
        begun, stages = time.perf_counter(), Stages()
        text = wire.text if isinstance(wire.text, str) else wire.text[0]
        if (found := cache.get(spec, text)) is None:
            with stages.measure("tokenize"):
                encoding = tokenizer.encode(text)
            async with asyncio.timeout(_DEADLINE_S):
                with stages.measure("encode"):
                    batch = encoding.tokens[None]
                    rows = await connections[0].infer(model, "", "tokens", batch, embed_dim, _DEADLINE_S)
            found = TextEmbedding(rows[0].copy(), encoding.length, encoding.truncated)
            cache.put(spec, text, found)
        seconds = time.perf_counter() - begun
        client = request.client.host if request.client else None
        finished = FinishedRequest(secrets.token_hex(16), client, "/text", 200, None, seconds, 0, stages)
        metrics.record(finished)
        access_log.log(finished)
        headers = {"x-request-id": finished.request_id, "server-timing": stages.server_timing(seconds)}
        return Response(_body(found.embedding), headers=headers, media_type="application/json")

    return app


def _body(embedding: NDArray[np.float32]) -> bytes:
    value = {"inference_id": None, "frame_id": None, "time": 0.001, "embeddings": embedding[None]}
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


if __name__ == "__main__":
    port, triton, model, file, embed_dim = sys.argv[1:]
    logs.configure("text")
    uvicorn.run(
        make_app(triton, model, Path(file).read_bytes(), int(embed_dim)),
        host="127.0.0.1",
        port=int(port),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
    )
