"""Measure how throughput grows with the number of Tritons: `python -m deploy.bench.speed.scale`.

Everything is real, on this machine's loopback: one gateway, and Tritons at 127.0.1.1, 127.0.1.2, ... behind one name,
`dns:///tritons`, as a headless service in Kubernetes provides it. Only the gateway sees the hosts file with that name,
because it runs in a mount namespace of its own (`unshare`), which needs no root. The model sleeps for a fixed time per
batch, so that several Tritons fit on two cores. The measurement shows how the gateway distributes requests, and what is
lost when Tritons start and stop.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from deploy.bench.harness import client, stack, stub_model, worker
from deploy.bench.harness.arguments import positive_number, whole_number
from deploy.bench.harness.figures import table
from deploy.bench.harness.spread import spread
from deploy.bench.harness.stack import Gateway, StackFailed, get_json
from deploy.bench.harness.worker import Worker
from deploy.embedded import installation, model_scan, ports
from deploy.embedded.child import adopt_orphans
from deploy.embedded.endpoints import PortEndpoints
from deploy.embedded.run_directory import cache, run_directory
from deploy.embedded.signals import Signals
from deploy.embedded.triton_process import TritonProcess

COUNTS: Final = (1, 2, 4)
NAME: Final = "tritons"
_BATCH_S: Final = 0.32  # 25 images/s per Triton, so that the gateway's own cost does not matter
_QUEUED: Final = 3 * stub_model.BATCH  # requests in flight per Triton, so that its batches are full
_LOOKUP_S: Final = 7.0  # the gateway resolves the name every 5 s
_NAMESPACE: Final = ("unshare", "--map-root-user", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"')


@dataclass
class Site:
    """The running Tritons by number, where each listens, and the hosts file that names them."""

    directory: Path
    signals: Signals
    running: ExitStack
    tritons: dict[int, TritonProcess] = field(default_factory=dict)
    listening: dict[int, PortEndpoints] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.hosts = self.directory / "hosts"
        self.hosts.touch()
        self.body = self.directory / "image.json"
        self.body.write_text(json.dumps({"image": client.grey(120)}))
        stub = stub_model.write(self.directory / "model")
        stub.behave(seconds=_BATCH_S)
        self._models = model_scan.servable_models(stub.repository)
        self._installation = installation.find(installation.candidate_environments(cache()))
        (self._port,) = ports.free(1)

    def start(self, *numbers: int) -> None:
        """Start Tritons and wait until they are ready."""
        for number in numbers:
            directory = self.running.enter_context(run_directory(cache()))
            http, _, metrics = ports.free(3)
            listening = PortEndpoints(http, self._port, metrics, _address(number))
            self.listening[number] = listening
            self.tritons[number] = TritonProcess(
                self._installation, self._models, directory, verbose=False, endpoints=listening
            )
        for number in numbers:
            self.running.callback(self.tritons[number].stop, self.signals)
            self.tritons[number].wait_until_ready(self.signals)

    def name(self, *numbers: int) -> None:
        """Let the name resolve to these Tritons from now on."""
        lines = ["127.0.0.1 localhost", *(f"{_address(number)} {NAME}" for number in numbers)]
        self.hosts.write_text("\n".join(lines) + "\n")  # In place, because the bind mount shows this inode.

    def gateway(self) -> AbstractContextManager[Gateway]:
        """Start a gateway for the name. It fails with StackFailed where namespaces are forbidden."""
        return stack.gateway(
            self.directory, f"dns:///{NAME}:{self._port}", prefix=[*_NAMESPACE, str(self.hosts)],
            PE_MAX_IN_FLIGHT="1000", PE_DRAIN_SECONDS="0",
        )  # fmt: skip

    def embedded(self, number: int) -> int:
        """Return how many images a Triton has embedded, by its statistics."""
        url = f"http://{self.listening[number].http}/v2/models/{stub_model.VARIANT}-vision/stats"
        return int(get_json(url)["model_stats"][0]["inference_count"])


def _address(number: int) -> str:
    return f"127.0.1.{number + 1}"


@contextmanager
def site(directory: Path) -> Iterator[Site]:
    """Build a site, and stop all of its Tritons at the end of the block."""
    adopt_orphans()
    with Signals() as signals, ExitStack() as running:
        made = Site(directory, signals, running)
        try:
            yield made
        finally:
            for triton in made.tritons.values():
                if triton.status is None:
                    os.kill(triton.pid, signal.SIGTERM)  # All at once. The exit stack waits for each.


def _run(made: Site, load: Worker, url: str, seconds: float, in_flight: int, warmup: float = 1) -> dict[str, Any]:
    """Send images, and return what the load generator reports."""
    return load.request(
        url=url, path=client.IMAGE, files=[str(made.body)], concurrency=in_flight, seconds=seconds, warmup=warmup
    )


def throughput(made: Site, load: Worker, count: int, seconds: float) -> dict[str, Any]:
    """Measure the first `count` Tritons: images/s, images that each embedded, and responses other than 200."""
    made.name(*range(count))
    before = [made.embedded(number) for number in range(count)]
    with made.gateway() as gateway:
        measured = _run(made, load, gateway.url, seconds, count * _QUEUED)
    embedded = [made.embedded(number) - before[number] for number in range(count)]
    return {"images_per_s": measured["items_per_s"], "embedded": embedded, "errors": measured["errors"]}


def changes(made: Site, load: Worker, say: Callable[[str], None]) -> dict[str, Any]:
    """Under load, let two Tritons become four, remove one in an orderly way, and kill one.

    Tritons 1 and 2 of 0 to 3 keep running: 0 was stopped, 3 was killed.

    Returns:
        The number of requests, their errors, the images that each Triton embedded, and how long each change took.
    """
    made.name(0, 1)
    took: dict[str, float] = {}
    with made.gateway() as gateway, ThreadPoolExecutor(1) as pool:
        before = [made.embedded(number) for number in range(4)]
        seconds = 2 + 2 * _LOOKUP_S + 6
        pending = pool.submit(_run, made, load, gateway.url, seconds, 4 * _QUEUED, 0)
        made.signals.wait(2)
        say("two more Tritons are named ...")
        made.name(0, 1, 2, 3)
        took["s until the new ones were used"] = _until(made, lambda: all(made.embedded(n) > before[n] for n in (2, 3)))
        say("one is no longer named, and stops once it is idle ...")
        made.name(1, 2, 3)
        took["s until the old one was idle"] = _until(made, lambda: _idle(made, 0))
        embedded = [made.embedded(number) - before[number] for number in range(4)]
        made.tritons[0].stop(made.signals)
        say("one is killed while it is named ...")
        os.killpg(made.tritons[3].pid, signal.SIGKILL)  # All processes at once, as a container ends.
        if pending.done():
            raise StackFailed("the load was over before the last Triton was killed")
        measured = pending.result()
    return {
        "requests": measured["requests"] + sum(measured["errors"].values()),
        "errors": measured["errors"],
        "embedded": embedded,
        **took,
    }


def _until(made: Site, happened: Callable[[], bool]) -> float:
    began = time.monotonic()
    while not happened():
        if time.monotonic() > began + 3 * _LOOKUP_S:
            raise StackFailed("the gateway did not follow the name")
        made.signals.wait(0.1)
    return time.monotonic() - began


def _idle(made: Site, number: int) -> bool:
    """Whether a Triton embeds nothing for the time of three batches."""
    before = made.embedded(number)
    made.signals.wait(3 * _BATCH_S)
    return made.embedded(number) == before


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table.

    Returns:
        0: measured, and no request failed. 1: a request failed, or it could not be measured.
    """
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.speed.scale", description=__doc__)
    parser.add_argument("--seconds", type=positive_number, default=10, help="of one measurement (default: %(default)s)")
    parser.add_argument("--rounds", type=whole_number, default=3, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="pe-scale-") as name, ExitStack() as block:
        made = block.enter_context(site(Path(name)))
        load = block.enter_context(worker.load_generator())
        try:
            made.start(*range(max(COUNTS)))
            rounds = [
                {count: throughput(made, load, count, options.seconds) for count in COUNTS}
                for _ in range(options.rounds)
            ]
            changed = changes(made, load, _say)
        except (StackFailed, subprocess.SubprocessError) as error:
            _say(f"scale: {error}")
            return 1
    print(report(rounds, changed))
    failed = any(row["errors"] for each in rounds for row in each.values()) or changed["errors"]
    return 1 if failed else 0


def report(rounds: Sequence[dict[int, dict[str, Any]]], changed: dict[str, Any]) -> str:
    """Write the results as Markdown. Ratios are within a round: the median, and the range."""
    rows = []
    for count in rounds[0]:
        each = [one[count] for one in rounds]
        growth = spread([one[count]["images_per_s"] / one[min(one)]["images_per_s"] for one in rounds])
        uneven = max(max(row["embedded"]) / max(1, min(row["embedded"])) for row in each)
        errors = sum(sum(row["errors"].values()) for row in each)
        rate = spread([row["images_per_s"] for row in each])
        assert rate
        rows.append([str(count), f"{rate.median:.1f}", f"{growth:.2f}", f"{uneven:.2f}", str(errors)])
    head = ["Tritons", "images/s", "times one", "most / least embedded by one", "responses other than 200"]
    shown = [
        [what, str(round(found, 1) if isinstance(found, float) else found or "none")] for what, found in changed.items()
    ]
    return "\n\n".join([
        table(head, rows),
        "Under load, two Tritons become four, one is removed, one is killed:",
        table(["", ""], shown),
    ])  # fmt: skip


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
