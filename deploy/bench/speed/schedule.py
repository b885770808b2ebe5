"""Run all measurements in rounds. Each round runs every measurement once; every second round runs them in reverse."""

import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from deploy.bench.harness import processes, stack, worker
from deploy.bench.harness.stack import Stack
from deploy.bench.harness.worker import Worker, WorkerFailed
from deploy.bench.speed import perf_analyzer, server_timing
from deploy.bench.speed.payloads import Payloads
from deploy.embedded import ports
from deploy.embedded.installation import CHECKOUT
from export.variants import VARIANTS

Result = dict[str, Any]
Series = dict[str, list[Result]]
Say = Callable[[str], None]

AT: Final = 8  # requests in flight for measurements at one level only, and for the targets
OPEN_LOOP: Final = 0.7  # of the closed loop's rate: busy, with room for bursts
_HERE: Final = Path(__file__).parent
_TEXTS_APART: Final = 60_000
_FEW: Final = 24  # responses per rate, if the model is slow
_MANY: Final = 80  # the same for the rates of targets: a slow model's responses come in bursts, one per batch
_LONGEST: Final = 3.0  # times the usual length of a measurement


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int  # at most. No round begins that would not end within the minutes.
    minutes: float
    seconds: float  # of one measurement of a fast model
    levels: tuple[int, ...]  # requests in flight
    memory_requests: int  # before the gateway's memory is read
    torch: bool
    gemm: bool = True


FULL: Final = Effort(rounds=5, minutes=15, seconds=3.0, levels=(1, 2, 4, 8, 16), memory_requests=1000, torch=True)
QUICK: Final = Effort(rounds=2, minutes=2, seconds=1.0, levels=(1, 8), memory_requests=300, torch=False)


@dataclass
class Bench:
    """The processes and settings of one run."""

    stack: Stack
    payloads: Payloads
    directory: Path
    effort: Effort
    load: Worker
    decoder: Worker
    bare_url: str
    bare_pid: int
    gemm: Worker | None
    torch: Worker | None
    image_s: float = 0.0  # of one request alone
    text_s: float = 0.0
    _texts: int = field(default_factory=lambda: random.randrange(24**4))
    last: dict[str, Result] = field(default_factory=dict)

    def http(
        self, name: str, concurrency: int = AT, *, open_loop_of: str | None = None, requests: int | None = None,
        seconds: float | None = None,
    ) -> Result:  # fmt: skip
        """Send one kind of request to the gateway or to the bare routes, and measure each process's CPU per item.

        Args:
            name: of the payload.
            concurrency: requests in flight.
            open_loop_of: send at `OPEN_LOOP` times the rate of that measurement instead.
            requests: stop after that many.
            seconds: measure for that long instead of the usual time.
        """
        payload = self.payloads.http[name]
        bare = name.startswith("bare")
        fast = bare or name.startswith("text")
        spec: dict[str, Any] = {
            "url": self.bare_url if bare else self.stack.url,
            "path": payload.path,
            "kind": payload.kind,
            "files": [str(file) for file in payload.files],
            "items": payload.items,
            "concurrency": concurrency,
            "seconds": seconds or self._seconds(name, concurrency),
            "warmup": 0.2 + (0.0 if fast else min(concurrency * self.image_s, self.effort.seconds)),
        }
        if payload.items > 1 and payload.items * self.image_s > self.effort.seconds / 6:
            requests = 2 * concurrency  # The edges of a window would cut through such long requests.
            spec["seconds"] = 300
        if payload.new_texts:
            self._texts += _TEXTS_APART
            spec["texts_from"] = self._texts
        if requests:
            spec |= {"requests": requests, "warmup": 0.0}
        if open_loop_of:
            spec |= {"rate": OPEN_LOOP * self.last[open_loop_of]["items_per_s"], "seed": self._texts}
        counting = nullcontext(None) if bare else self._batches("text" if name.startswith("text") else "vision")
        pids = {"bare": [self.bare_pid]} if bare else self.stack.pids
        with counting as batches, processes.cpu_of(pids) as spent:
            result = self.load.request(**spec)
        if batches is not None:
            result["batches"] = batches
        items = result["items_in_all"] or float("nan")
        result["cpu_s"] = {role: seconds / items for role, seconds in spent.items()}
        return result | ({"rate": spec["rate"]} if open_loop_of else {})

    def triton(self, tower: str, concurrency: int | None = AT, open_loop_of: str | None = None) -> Result:
        """Measure Triton alone with perf_analyzer. The arguments are those of `http`."""
        rate = OPEN_LOOP * self.last[open_loop_of]["items_per_s"] if open_loop_of else 0.0
        data = self.payloads.images if tower == "vision" else self.payloads.texts
        alone = self.image_s if tower == "vision" else self.text_s
        # Each of perf_analyzer's three windows must contain responses, which come a batch at a time.
        seconds = max(self._seconds(f"triton {tower}", concurrency), 2 * (concurrency or 1) * alone)
        with self._batches(tower) as batches, processes.cpu_of(self.stack.pids) as spent:
            result = perf_analyzer.measure(
                self.stack.triton_grpc, f"{self.stack.variant}-{tower}", data, self.directory, seconds,
                None if open_loop_of else concurrency, rate,
            )  # fmt: skip
        items = sum(int(size) * n for size, n in batches.items()) or float("nan")
        cpu = {role: seconds / items for role, seconds in spent.items()}
        return result | {"rate": rate, "batches": batches, "cpu_s": cpu}

    @contextmanager
    def _batches(self, tower: str) -> Iterator[dict[str, int]]:
        """Count the batches that Triton runs within the block, by size. The dictionary is filled at its end."""
        before = self.stack.batches(tower)
        found: dict[str, int] = {}
        yield found
        after = self.stack.batches(tower)
        found |= {str(size): n for size in sorted(after) if (n := after[size] - before.get(size, 0))}

    def alone(self, name: str) -> Result:
        """Measure where the time of one request goes."""
        count = max(3, min(20, int(self.effort.seconds / max(self.image_s, 1e-3))))
        return server_timing.measure(self.stack.url, self.payloads.http[name], count)

    def decode(self, files: list[Path]) -> Result:
        """Measure decoding and resizing alone."""
        return self.decoder.request(
            files=[str(file) for file in files], size=self.stack.image_size, seconds=self.effort.seconds
        )

    def _seconds(self, name: str, concurrency: int | None) -> float:
        """Return the length of a measurement. It is longer for a slow model, up to a limit."""
        if name == "bare ready":
            return self.effort.seconds
        alone = self.text_s if "text" in name or name == "bare grpc" else self.image_s
        if name in ("image base64", "triton vision") and concurrency == AT:
            return max(self.effort.seconds, min(_MANY * alone, 3 * _LONGEST * self.effort.seconds))
        return max(self.effort.seconds, min(_FEW * alone, _LONGEST * self.effort.seconds))


@contextmanager
def bench(served: Stack, payloads: Payloads, directory: Path, effort: Effort, say: Say) -> Iterator[Bench]:
    """Start all workers and warm everything up."""
    with ExitStack() as running:
        load = running.enter_context(worker.load_generator())
        decoder = running.enter_context(worker.module_worker("speed.decode_loop"))
        url, bare = running.enter_context(bare_routes(served, payloads, directory))
        gemm = _script_worker(running, ".venv-triton", _HERE / "gemm.py", say=say) if effort.gemm else None
        torch = None
        variant = VARIANTS.get(served.variant)
        if effort.torch and variant is not None and variant.bundled_checkpoint is None:  # The demo is not open_clip's.
            arguments = (variant.architecture, str(served.image_size[0]))
            torch = _script_worker(running, ".venv-export", _HERE / "torch_loop.py", *arguments, say=say)
        made = Bench(served, payloads, directory, effort, load, decoder, url, bare, gemm, torch)
        made.image_s = _alone(made, "image base64")
        made.text_s = _alone(made, "text new")
        say(f"One image takes {made.image_s * 1e3:.1f} ms, one text {made.text_s * 1e3:.1f} ms.")
        for name in payloads.http:
            if "12" not in name and "list" not in name:
                made.http(name, seconds=max(0.5, 2 * made.image_s))
        yield made


def _alone(bench: Bench, name: str) -> float:
    """Return the seconds of one request alone, after a few to warm up."""
    bench.http(name, 1, requests=3, seconds=30)
    return float(bench.http(name, 1, requests=5, seconds=30)["ms"]["p50"]) / 1e3


def memory(bench: Bench) -> Result:
    """Measure the memory of the gateway's processes together, after requests of 640x480.

    8 are in flight, and as many are sent as a minute allows.
    """
    requests = min(bench.effort.memory_requests, int(60 / max(bench.image_s / 2, 1e-4)))
    done = bench.http("image base64", AT, requests=requests, seconds=120)
    gateway = bench.stack.pids.get("gateway", [])
    mb = processes.shared_memory_mb(gateway) if gateway else float("nan")
    return {"requests": done["items_in_all"], "mb": mb}


def measurements(bench: Bench) -> dict[str, Callable[[], Result]]:
    """Return the measurements by name. Open loops come last, because they need the rates of closed loops."""
    found: dict[str, Callable[[], Result]] = {}
    for level in bench.effort.levels:
        # These two are neighbours, because their ratio is a target.
        found[f"triton vision {level}"] = lambda level=level: bench.triton("vision", level)  # type: ignore[misc]
        found[f"http image base64 {level}"] = lambda level=level: bench.http("image base64", level)  # type: ignore[misc]
    small, large = bench.payloads.small, bench.payloads.large
    found |= {
        "decode 640x480": lambda: bench.decode(small),
        f"http image raw {AT}": lambda: bench.http("image raw"),
        "http list of 32 1": lambda: bench.http("list of 32", 1),
        "http list of 8 2": lambda: bench.http("list of 8", 2),
        "http image 12 MP 4": lambda: bench.http("image 12 MP", 4),
        "decode 12 MP": lambda: bench.decode(large),
        f"http compare {AT}": lambda: bench.http("compare"),
        f"triton text {AT}": lambda: bench.triton("text"),
        f"http text new {AT}": lambda: bench.http("text new"),
        f"bare grpc {AT}": lambda: bench.http("bare grpc"),
        f"http text repeated {AT}": lambda: bench.http("text repeated"),
        f"bare ready {AT}": lambda: bench.http("bare ready"),
    }
    for name in ("image base64", "image raw", "image 12 MP", "compare", "text repeated"):
        found[f"one {name}"] = lambda name=name: bench.alone(name)  # type: ignore[misc]
    if bench.gemm:
        gemm = bench.gemm
        found["gemm"] = lambda: gemm.request(seconds=bench.effort.seconds)
    if bench.torch:
        torch = bench.torch
        found["torch fp32"] = lambda: torch.request(seconds=bench._seconds("torch", None))
    found |= {
        "triton vision open": lambda: bench.triton("vision", open_loop_of=f"triton vision {AT}"),
        "http image base64 open": lambda: bench.http("image base64", 1, open_loop_of=f"http image base64 {AT}"),
        "http text repeated open": lambda: bench.http("text repeated", 1, open_loop_of=f"http text repeated {AT}"),
    }
    return found


def rounds(bench: Bench, say: Say) -> Iterator[Series]:
    """Yield all results so far after each round. A measurement that fails is reported and left out."""
    planned: dict[str, Callable[[], Result]] = measurements(bench)
    series: Series = {}
    begun, longest = time.monotonic(), 0.0
    for number in range(bench.effort.rounds):
        started = time.monotonic()
        if started - begun + longest > bench.effort.minutes * 60:
            say(f"No time for a round {number + 1}.")
            return
        closed, opened = ([n for n in planned if ("open" in n) is is_open] for is_open in (False, True))
        for name in (closed if number % 2 == 0 else closed[::-1]) + opened:
            try:
                result = planned[name]() | {"round": number}
            except (WorkerFailed, perf_analyzer.PerfAnalyzerFailed) as error:
                say(f"{name}: {error}")
                continue
            bench.last[name] = result
            series.setdefault(name, []).append(result)
        longest = max(longest, time.monotonic() - started)
        say(f"Round {number + 1} of {bench.effort.rounds} took {time.monotonic() - started:.0f} s.")
        yield series


@contextmanager
def bare_routes(served: Stack, payloads: Payloads, directory: Path) -> Iterator[tuple[str, int]]:
    """Start the bare routes. Yield their URL and process id."""
    (port,) = ports.free(1)
    model = f"{served.variant}-text"
    module = "deploy.bench.speed.bare_routes"
    command = [sys.executable, "-m", module, str(port), served.triton_grpc, model, str(payloads.tokens)]
    command.append(str(served.info["embed_dim"]))
    process = stack.spawn(command, {}, directory / "bare-routes.txt")
    try:
        end = time.monotonic() + 30
        while not _listens(process.pid, port):
            if process.poll() is not None or time.monotonic() > end:
                raise WorkerFailed("the bare routes did not start")
            time.sleep(0.05)
        yield f"http://{ports.LOOPBACK}:{port}", process.pid
    finally:
        process.terminate()
        process.wait(30)


def _listens(pid: int, port: int) -> bool:
    """Whether a process listens on the port. A test connection would reach the app."""
    return f":{port:04X} 00000000:0000 0A" in Path(f"/proc/{pid}/net/tcp").read_text()


def _script_worker(running: ExitStack, name: str, script: Path, *arguments: str, say: Say) -> Worker | None:
    """Start a script as a worker in another environment of the checkout; None if there is no such environment."""
    python = CHECKOUT / name / "bin/python"
    if not python.exists():
        say(f"{script.name} is left out: there is no {name}.")
        return None
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONHOME", "PYTHONPATH")}
    # -P keeps the script's folder off the import path, because its modules have the names of others.
    return running.enter_context(Worker([python, "-P", script, *arguments], clean))
