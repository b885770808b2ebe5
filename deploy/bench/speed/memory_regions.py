"""Compare images in system shared memory with images in gRPC messages: `python -m deploy.bench.speed.memory_regions`.

The real Triton serves a stub model that takes no time. Each image is copied once: into the message, or into a region
that Triton maps. In the second case the message names the region and an offset.
"""

import argparse
import asyncio
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import uvloop
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from deploy.bench.harness import processes, stack, stub_model
from deploy.bench.harness.arguments import whole_number
from deploy.bench.harness.figures import table
from deploy.bench.harness.spread import ratio, spread
from gateway.encoder import Pixels
from gateway.triton import infer_request
from gateway.triton.channel import Access

_IN_FLIGHT: Final = 8
_CALLS: Final = 400  # of each kind in a round
_KINDS: Final = ("message", "shared memory")

_Call = Callable[[int], Awaitable[Any]]
"""Embed the image of this place."""

Rounds = dict[str, list[tuple[float, float, float]]]
"""By kind: of each round, the client's and tritonserver's ms of one core per image, and the images per second."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table.

    Returns:
        0: measured. 1: the stack did not start.
    """
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.speed.memory_regions", description=__doc__)
    parser.add_argument("--image-size", type=whole_number, default=336, help="(default: PE-Core-L14-336's)")
    parser.add_argument("--rounds", type=whole_number, default=8, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="pe-shared-") as name:
        stub = stub_model.write(Path(name) / "model", options.image_size, embed_dim=1024)
        stub.behave(seconds=0)
        try:
            with stack.start(stub.repository, Path(name), stub_model.VARIANT) as served:
                print(report(uvloop.run(_measure(served, options.image_size, options.rounds))))
        except stack.StackFailed as error:
            print(f"memory_regions: {error}", file=sys.stderr)
            return 1
    return 0


@contextmanager
def _region(name: str, size: int) -> Iterator[NDArray[np.uint8]]:
    """Create a region of system shared memory, which is removed after the block. Yields its bytes."""
    file = Path("/dev/shm", name)
    try:
        with file.open("xb+") as opened:
            opened.truncate(size)
            yield np.frombuffer(mmap.mmap(opened.fileno(), size), np.uint8)
    finally:
        file.unlink()


async def _measure(served: stack.Stack, image_size: int, rounds: int) -> Rounds:
    images = np.random.default_rng(0).integers(0, 256, (_IN_FLIGHT, 1, image_size, image_size, 3), np.uint8)
    channel = Access().open(served.triton_grpc, "")
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    infer = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        response_deserializer=service_pb2.ModelInferResponse.FromString,
    )
    model, size = f"{served.variant}-vision", images[0].nbytes
    name = f"pe-bench-{os.getpid()}"
    with _region(name, images.nbytes) as region:
        places = region.reshape(images.shape)

        async def in_message(place: int) -> Any:
            return await infer(infer_request.serialize(model, "1", "image", images[place]), timeout=30)

        async def in_shared_memory(place: int) -> Any:
            places[place] = images[place]
            return await infer(_request(model, images[place], name, place * size).SerializeToString(), timeout=30)

        await stub.SystemSharedMemoryRegister(
            service_pb2.SystemSharedMemoryRegisterRequest(name=name, key=f"/{name}", byte_size=images.nbytes)
        )
        calls: dict[str, _Call] = dict(zip(_KINDS, (in_message, in_shared_memory), strict=True))
        answers = [(await call(3)).raw_output_contents[0] for call in calls.values()]
        if answers[0] != answers[1]:
            raise stack.StackFailed("The two kinds of call have different answers.")
        found = await _rounds(calls, served.pids["tritonserver"][0], rounds)
        await stub.SystemSharedMemoryUnregister(service_pb2.SystemSharedMemoryUnregisterRequest(name=name))
    await channel.close()
    return found


def _request(model: str, image: Pixels, region: str, offset: int) -> Any:
    request = service_pb2.ModelInferRequest(model_name=model, model_version="1", outputs=[{"name": "embedding"}])
    tensor = request.inputs.add(name="image", datatype="UINT8", shape=image.shape)
    tensor.parameters["shared_memory_region"].string_param = region
    tensor.parameters["shared_memory_byte_size"].int64_param = image.nbytes
    tensor.parameters["shared_memory_offset"].int64_param = offset
    return request


async def _rounds(calls: dict[str, _Call], triton: int, rounds: int) -> Rounds:
    async def repeat(call: _Call, place: int) -> None:
        for _ in range(_CALLS // _IN_FLIGHT):
            await call(place)

    found: Rounds = {kind: [] for kind in calls}
    for number in range(-1, rounds):  # the first one warms up
        for kind in list(calls)[:: 1 if number % 2 else -1]:
            cpu, served, begun = time.process_time(), processes.cpu_seconds(triton), time.perf_counter()
            await asyncio.gather(*(repeat(calls[kind], place) for place in range(_IN_FLIGHT)))
            spent = time.process_time() - cpu, processes.cpu_seconds(triton) - served
            if number >= 0:
                client, server = (seconds * 1e3 / _CALLS for seconds in spent)
                found[kind].append((client, server, _CALLS / (time.perf_counter() - begun)))
    return found


def report(rounds: Rounds) -> str:
    """Write a Markdown table of medians, ranges and ratios within a round."""
    columns = {kind: list(zip(*each, strict=True)) for kind, each in rounds.items()}
    rows = [[kind, *(f"{spread(values):.2f}" for values in columns[kind])] for kind in rounds]
    first, second = (columns[kind] for kind in _KINDS)
    rows.append(["shared memory / message", *(f"{ratio(b, a):.2f}" for a, b in zip(first, second, strict=True))])
    return table(["8 in flight, one image a call", "client, ms", "tritonserver, ms", "images/s"], rows)


if __name__ == "__main__":
    sys.exit(main())
