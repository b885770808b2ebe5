"""How throughput grows with Tritons: ``python -m deploy.bench.speed.scale``, all real, on this machine's loopback.

One gateway, and Tritons at 127.0.1.1, 127.0.1.2, ... behind one name, ``dns:///tritons``, as a headless service in
Kubernetes gives it. The name is looked up in a hosts file that only the gateway sees: it runs in a mount namespace of
its own (``unshare``), for which nobody needs to be root. The model takes a fixed time for a batch, asleep, so that as
many Tritons as are asked for fit on two cores: what is measured is how the gateway spreads requests, and what it loses
when Tritons come and go.
"""

import argparse
import base64
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from PIL import Image

from deploy.bench.harness import stub_model as stand_in
from deploy.bench.harness.stack import StackFailed, get_json
from deploy.bench.harness.worker import Helper, python_helper
from deploy.embedded import installation, ports, repository
from deploy.embedded.child import Child, adopt_orphans
from deploy.embedded.run_directory import cache, run_directory
from deploy.embedded.signals import Signals
from deploy.embedded.triton import Triton

COUNTS: Final = (1, 2, 4)
NAME: Final = "tritons"
_BATCH_S: Final = 0.32  # 25 images a second from each Triton: little for the gateway, whose cost is not the question
_QUEUED: Final = 3 * stand_in.BATCH  # requests in flight for each Triton, so that its batches are full
_LOOKUP_S: Final = 7.0  # the gateway looks the name up every 5 s
_NAMESPACE: Final = ("unshare", "--map-root-user", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"')


@dataclass
class Site:
    """The Tritons that run, by number from 0, the file that names them, and what is needed to start more."""

    directory: Path
    signals: Signals
    running: ExitStack
    tritons: dict[int, Triton] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.hosts = self.directory / "hosts"
        self.hosts.touch()
        made = stand_in.lay(self.directory / "model")
        made.behave(seconds=_BATCH_S)
        self._models = repository.models(made.repository)
        self._installation = installation.find(installation.places(cache()))
        (self._port,) = ports.free(1)

    @property
    def url(self) -> str:
        """What PE_TRITON_URL takes: the name, of which there is one address a Triton."""
        return f"dns:///{NAME}:{self._port}"

    def start(self, *numbers: int) -> None:
        """Returns when they are ready."""
        for number in numbers:
            directory = self.running.enter_context(run_directory(cache()))
            address = (_address(number), self._port)
            self.tritons[number] = Triton(self._installation, self._models, directory, verbose=False, grpc=address)
        for number in numbers:
            self.running.callback(self.tritons[number].stop, self.signals)
            self.tritons[number].wait_until_ready(self.signals)

    def name(self, *numbers: int) -> None:
        """From now on the name stands for these."""
        lines = ["127.0.0.1 localhost", *(f"{_address(number)} {NAME}" for number in numbers)]
        self.hosts.write_text("\n".join(lines) + "\n")  # in place: it is this very file that the gateway sees

    def embedded(self, number: int) -> int:
        """Images that Triton says it has embedded."""
        url = f"http://{ports.LOOPBACK}:{self.tritons[number].http}/v2/models/{stand_in.VARIANT}-vision/stats"
        return int(get_json(url)["model_stats"][0]["inference_count"])


def _address(number: int) -> str:
    return f"127.0.1.{number + 1}"


@contextmanager
def site(directory: Path) -> Iterator[Site]:
    """All Tritons that it starts end with the block."""
    adopt_orphans()
    with Signals() as signals, ExitStack() as running:
        made = Site(directory, signals, running)
        try:
            yield made
        finally:
            for triton in made.tritons.values():
                if triton.status is None:
                    os.kill(triton.pid, signal.SIGTERM)  # all at once; each is then waited for


@contextmanager
def gateway(made: Site) -> Iterator[int]:
    """A gateway before the site; its port.

    Raises:
        StackFailed: it did not start. Namespaces may be forbidden.
    """
    (port,) = ports.free(1)
    log = made.directory / f"gateway-{port}.txt"
    command = [*_NAMESPACE, str(made.hosts), sys.executable, "-P", "-m", "gateway"]
    settings = {
        "HOST": ports.LOOPBACK,
        "PORT": str(port),
        "PE_TRITON_URL": made.url,
        "PE_MAX_IN_FLIGHT": "1000",
        "PE_DRAIN_SECONDS": "0",
    }
    child = Child("The gateway", command, {**os.environ, **settings}, log)
    try:
        end = time.monotonic() + 60
        while not _ready(port):
            if child.status is not None or time.monotonic() > end:
                raise StackFailed(f"the gateway did not start:\n{child.tail()}")
            made.signals.wait(0.1)
        yield port
    finally:
        child.stop(made.signals, patience=40)


def _ready(port: int) -> bool:
    with suppress(OSError):
        return bool(get_json(f"http://{ports.LOOPBACK}:{port}/readiness")["status"] == "ready")
    return False


@dataclass(frozen=True)
class Load:
    """Images asked for, one a request."""

    helper: Helper
    body: Path

    def run(self, port: int, seconds: float, in_flight: int, warmup: float = 1) -> dict[str, Any]:
        """The load generator's figures, after `warmup` seconds that do not count."""
        return self.helper.ask(
            host=ports.LOOPBACK, port=port, path="/perception_encoder/embed_image", kind="application/json",
            files=[str(self.body)], concurrency=in_flight, seconds=seconds, warmup=warmup,
        )  # fmt: skip


@contextmanager
def load(directory: Path) -> Iterator[Load]:
    """A load generator in a process of its own."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (120, 80, 200)).save(buffer, "PNG")
    image = {"type": "base64", "value": base64.b64encode(buffer.getvalue()).decode()}
    body = directory / "image.json"
    body.write_text(json.dumps({"image": image}))
    with python_helper("harness.load_generator") as helper:
        yield Load(helper, body)


def throughput(made: Site, asking: Load, count: int, seconds: float) -> dict[str, Any]:
    """Of the first ``count`` Tritons: images a second, what each embedded, and answers other than 200."""
    made.name(*range(count))
    before = [made.embedded(number) for number in range(count)]
    with gateway(made) as port:
        measured = asking.run(port, seconds, count * _QUEUED)
    spread = [made.embedded(number) - before[number] for number in range(count)]
    return {"images_per_s": measured["items_per_s"], "spread": spread, "errors": measured["errors"]}


def changes(made: Site, asking: Load, say: Callable[[str], None]) -> dict[str, Any]:
    """Under load: two Tritons become four, one leaves in an orderly way, one is killed. What that did to requests.

    Leaves Tritons 1 and 2 of 0 to 3 running: 0 left, 3 was killed.
    """
    made.name(0, 1)
    took: dict[str, float] = {}
    with gateway(made) as port, ThreadPoolExecutor(1) as pool:
        before = [made.embedded(number) for number in range(4)]
        seconds = 2 + 2 * _LOOKUP_S + 6
        answers = pool.submit(asking.run, port, seconds, 4 * _QUEUED, 0)
        made.signals.wait(2)
        say("two more Tritons are named ...")
        made.name(0, 1, 2, 3)
        took["until new ones were used, s"] = _until(made, lambda: all(made.embedded(n) > before[n] for n in (2, 3)))
        say("one is not named any more, and ends once it is idle ...")
        made.name(1, 2, 3)
        took["until the old one was left, s"] = _until(made, lambda: _idle(made, 0))
        embedded = [made.embedded(number) - before[number] for number in range(4)]
        made.tritons[0].stop(made.signals)
        say("one is killed, named as it is ...")
        os.killpg(made.tritons[3].pid, signal.SIGKILL)  # as a container ends: all at once
        if answers.done():
            raise StackFailed("the load was over before the last Triton was killed")
        measured = answers.result()
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
    """Nothing was embedded for three batches' time."""
    before = made.embedded(number)
    made.signals.wait(3 * _BATCH_S)
    return made.embedded(number) == before


def main(arguments: Sequence[str] | None = None) -> int:
    """0: measured, and nothing was lost. 1: something was, or it could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.speed.scale", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="of one measurement (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, help="write the table to this file, too")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="pe-scale-") as name, ExitStack() as block:
        directory = Path(name)
        made = block.enter_context(site(directory))
        asking = block.enter_context(load(directory))
        try:
            made.start(*range(max(COUNTS)))
            rounds = [
                {count: throughput(made, asking, count, options.seconds) for count in COUNTS}
                for _ in range(options.rounds)
            ]
            changed = changes(made, asking, _say)
        except (StackFailed, subprocess.SubprocessError) as error:
            _say(f"scale: {error}")
            return 1
    text = report(rounds, changed)
    print(text)
    if options.output:
        options.output.write_text(text)
    failed = any(row["errors"] for each in rounds for row in each.values()) or changed["errors"]
    return 1 if failed else 0


def report(rounds: Sequence[dict[int, dict[str, Any]]], changed: dict[str, Any]) -> str:
    """Markdown. Ratios are of one round each: the median, and the range."""
    lines = [
        "| Tritons | images/s | times one | most to least, of what each embedded | answers other than 200 |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for count in rounds[0]:
        rows = [each[count] for each in rounds]
        ratios = [each[count]["images_per_s"] / each[min(each)]["images_per_s"] for each in rounds]
        spread = max(max(row["spread"]) / max(1, min(row["spread"])) for row in rows)
        errors = sum(sum(row["errors"].values()) for row in rows)
        rate = statistics.median(row["images_per_s"] for row in rows)
        times = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        lines.append(f"| {count} | {rate:.1f} | {times} | {spread:.2f} | {errors} |")
    lines += ["", "Under load, two Tritons become four, one leaves, one is killed:", "", "| | |", "| --- | ---: |"]
    lines += [
        f"| {what} | {round(value, 1) if isinstance(value, float) else value or 'none'} |"
        for what, value in changed.items()
    ]
    return "\n".join(lines) + "\n"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
