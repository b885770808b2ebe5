"""A client's trace through the gateway into the real Triton."""

import asyncio
import itertools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.gateway.process import GatewayProcess
from tests.otlp import Collector
from tests.running import PeServe, free_port

pytestmark = pytest.mark.triton

TEXT = "/perception_encoder/embed_text"
TRACE = "0af7651916cd43dd8448eb211c80319c"
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def traced_triton(tmp_path: Path) -> Iterator[tuple[Collector, int]]:
    """The Triton of a pe-serve, started once more with traces, which pe-serve has no option for; and its gRPC port."""
    stack = PeServe(tmp_path, "--port=0", "--triton-ports=0,0,0", "--repository", ROOT / "model_repository")
    with Collector() as collector:
        triton = None
        try:
            stack.wait_until_ready()
            process = Path(f"/proc/{stack.pid_of('tritonserver')}")
            command = (process / "cmdline").read_bytes().decode().split("\0")[:-1]
            environment = (process / "environ").read_bytes().decode().split("\0")
            grpc = free_port()
            command = [re.sub(r"-port=\d+", lambda _: f"-port={free_port()}", argument) for argument in command]
            command = [re.sub(r"--grpc-port=\d+", f"--grpc-port={grpc}", argument) for argument in command]
            for option in ("mode=opentelemetry", f"opentelemetry,url={collector.url}/v1/traces", "rate=1"):
                command.append(f"--trace-config={option}")
            command.append("--trace-config=level=TIMESTAMPS")
            with (tmp_path / "triton.log").open("wb") as log:
                variables = dict(line.split("=", 1) for line in environment if "=" in line)
                triton = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
            yield collector, grpc
        finally:
            if triton is not None:
                triton.terminate()
                triton.wait()
            stack.kill()


async def test_tritons_spans_continue_the_gateways(traced_triton: tuple[Collector, int]) -> None:
    collector, grpc_port = traced_triton
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    async with GatewayProcess(grpc_port, PE_TRACES="True", **environment) as gateway:
        async with httpx2.AsyncClient(base_url=gateway.base_url) as client:
            headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
            async with asyncio.timeout(60):  # Triton drops spans that it cannot deliver in time.
                for number in itertools.count():
                    answer = await client.post(TEXT, json={"text": f"text {number}"}, headers=headers)
                    assert answer.status_code == 200
                    await asyncio.sleep(1)
                    if any(span.trace_id == TRACE for span in collector.json_spans):
                        break
        assert await gateway.stop() == 0
    calls = [span for span in collector.spans if span.name.startswith("ModelInfer")]
    assert {call.trace_id.hex() for call in calls} == {TRACE}
    theirs = [span for span in collector.json_spans if span.trace_id == TRACE]
    assert {span.parent_id for span in theirs} & {call.span_id.hex() for call in calls}
    assert "compute" in {span.name for span in theirs}
