"""Run the gateway as a separate process, in front of Tritons that a test runs."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import httpx2

from tests.running import free_port

COMMAND: Final = (sys.executable, "-m", "gateway")


class GatewayProcess:
    """`python -m gateway` on a free port. An async context manager that enters once the gateway is ready.

    Args:
        triton_ports: loopback ports of Tritons.
        command: the command that runs the gateway.
        environment: additional environment variables.
    """

    def __init__(self, *triton_ports: int, command: Sequence[str] = COMMAND, **environment: str) -> None:
        self._command = command
        port = free_port()
        self.base_url = f"http://127.0.0.1:{port}"
        self.log = ""
        self._environment = {
            **os.environ,
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "PE_TRITON_URL": ",".join(f"127.0.0.1:{port}" for port in triton_ports),
            "PE_DRAIN_SECONDS": "0",
            **environment,
        }

    async def __aenter__(self) -> Self:
        self.process = await asyncio.create_subprocess_exec(
            *self._command, env=self._environment, stderr=asyncio.subprocess.PIPE
        )
        assert self.process.stderr is not None
        self._stderr = asyncio.create_task(self.process.stderr.read())
        try:
            async with asyncio.timeout(120):
                while await self.readiness() != 200:
                    assert self.process.returncode is None
                    await asyncio.sleep(0.1)
        except BaseException:
            await self.__aexit__(None, None, None)
            print(self.log)  # noqa: T201
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        self.log = (await self._stderr).decode()

    def signal(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)

    async def stop(self, seconds: float = 30) -> int:
        """Send SIGTERM, unless the process has ended, and wait. Returns the exit status."""
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    async def readiness(self) -> int:
        """The HTTP status of /readiness; 0 without a response."""
        async with httpx2.AsyncClient() as client:
            try:
                return (await client.get(self.base_url + "/readiness")).status_code
            except httpx2.TransportError:
                return 0
