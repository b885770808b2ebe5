"""What is measured, in rounds: every round everything once, in an order that is turned around each time."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from deploy.bench.harness import processes as cpu
from deploy.bench.harness.stack import Stack
from deploy.bench.harness.worker import Helper, HelperFailed, python_helper
from deploy.bench.speed import perf_analyzer
from deploy.bench.speed import server_timing as timing
from deploy.bench.speed.payloads import Payloads
from deploy.embedded import ports
from deploy.embedded.installation import CHECKOUT

Result = dict[str, Any]
Series = dict[str, list[Result]]
Say = Callable[[str], None]

AT: Final = 8  # in flight, where one level must do: the targets' own
OPEN_LOOP: Final = 0.7  # of the closed loop's rate: busy, and with room for bursts
_HERE: Final = Path(__file__).parent
_TEXTS_APART: Final = 60_000
_FEW: Final = 24  # answers that a rate is made of, where the model is slow
_MANY: Final = 80  # where a target hangs on it: slow answers come in bursts, one a batch
_LONGEST: Final = 3.0  # times the usual length of a measurement


@dataclass(frozen=True)
class Effort:
    """How long it may take. ``levels``: concurrency of the sweeps."""

    rounds: int  # at most: none is begun that would not end within the minutes
    minutes: float
    seconds: float  # a measurement, of a fast model
    levels: tuple[int, ...]
    memory_requests: int
    torch: bool
    gemm: bool = True


FULL: Final = Effort(rounds=5, minutes=15, seconds=3.0, levels=(1, 2, 4, 8, 16), memory_requests=1000, torch=True)
QUICK: Final = Effort(rounds=2, minutes=2, seconds=1.0, levels=(1, 8), memory_requests=300, torch=False)
# A card needs more in flight, and its own limit is no CPU's.
GPU: Final = Effort(3, 3, seconds=1.5, levels=(1, 8, 32, 64), memory_requests=1000, torch=False, gemm=False)


@dataclass
class Bench:
    """One run's tools."""

    stack: Stack
    payloads: Payloads
    directory: Path
    effort: Effort
    load: Helper
    decoder: Helper
    bare_port: int
    bare_pid: int
    gemm: Helper | None
    torch: Helper | None
    image_s: float = 0.0  # what one request takes alone
    text_s: float = 0.0
    _texts: int = field(default_factory=lambda: random.randrange(24**4))
    last: dict[str, Result] = field(default_factory=dict)

    def http(
        self, name: str, concurrency: int = AT, *, open_loop_of: str | None = None, requests: int | None = None,
        seconds: float | None = None,
    ) -> Result:  # fmt: skip
        """Asks the gateway, or the bare routes, and adds what each process spent an item."""
        payload = self.payloads.http[name]
        bare = name.startswith("bare")
        spec: dict[str, Any] = {
            "host": "127.0.0.1" if bare else self.stack.host,
            "port": self.bare_port if bare else self.stack.port,
            "path": payload.path,
            "kind": payload.kind,
            "files": [str(file) for file in payload.files],
            "items": payload.items,
            "concurrency": concurrency,
            "seconds": seconds or self._seconds(name, concurrency),
            "warmup": 0.2
            if bare or name.startswith("text")
            else 0.2 + min(concurrency * self.image_s, self.effort.seconds),
        }
        if payload.items * self.image_s > self.effort.seconds / 6 and payload.items > 1:
            requests = 2 * concurrency  # few and long: a window would mostly cut through them
            spec["seconds"] = 300
        if payload.new_texts:
            self._texts += _TEXTS_APART
            spec["texts_from"] = self._texts
        if requests:
            spec |= {"requests": requests, "warmup": 0.0}
        if open_loop_of:
            spec |= {"rate": OPEN_LOOP * self.last[open_loop_of]["items_per_s"], "seed": self._texts}
        pids = {"bare": [self.bare_pid]} if bare else self.stack.pids
        tower = "text" if name.startswith("text") else "vision"
        batches = {} if bare else self.stack.batches(tower)
        with cpu.cpu_of(pids) as spent:
            result = self.load.ask(**spec)
        items = result["items_in_all"] or float("nan")
        result["cpu_s"] = {role: seconds / items for role, seconds in spent.items()}
        if not bare:
            after = self.stack.batches(tower)
            result["batches"] = {str(size): n for size in sorted(after) if (n := after[size] - batches.get(size, 0))}
        if open_loop_of:
            result["rate"] = spec["rate"]
        return result

    def triton(self, tower: str, concurrency: int | None = AT, open_loop_of: str | None = None) -> Result:
        """Asks Triton alone."""
        rate = OPEN_LOOP * self.last[open_loop_of]["items_per_s"] if open_loop_of else 0.0
        data = self.payloads.images if tower == "vision" else self.payloads.texts
        alone = self.image_s if tower == "vision" else self.text_s
        # Each of its three windows must see answers, and they come a batch at a time.
        seconds = max(self._seconds(f"triton {tower}", concurrency), 2 * (concurrency or 1) * alone)
        batches = self.stack.batches(tower)
        with cpu.cpu_of(self.stack.pids) as spent:
            result = perf_analyzer.measure(
                self.stack.triton_grpc, f"{self.stack.variant}-{tower}", data, self.directory, seconds,
                None if open_loop_of else concurrency, rate,
            )  # fmt: skip
        after = self.stack.batches(tower)
        run = {size: n for size in sorted(after) if (n := after[size] - batches.get(size, 0))}
        items = sum(size * n for size, n in run.items()) or float("nan")
        return result | {
            "rate": rate,
            "batches": {str(size): n for size, n in run.items()},
            "cpu_s": {role: seconds / items for role, seconds in spent.items()},
        }

    def alone(self, name: str) -> Result:
        """Where the time of one request goes."""
        count = max(3, min(20, int(self.effort.seconds / max(self.image_s, 1e-3))))
        return timing.measure(self.stack.host, self.stack.port, self.payloads.http[name], count)

    def decode(self, files: list[Path]) -> Result:
        """Images a second, and CPU, of decoding and resizing alone."""
        return self.decoder.ask(
            files=[str(file) for file in files], size=self.stack.image_size, seconds=self.effort.seconds
        )

    def _seconds(self, name: str, concurrency: int | None) -> float:
        """Longer for a slow model, but not without end."""
        if name == "bare ready":
            return self.effort.seconds
        alone = self.text_s if "text" in name or name == "bare grpc" else self.image_s
        if name in ("image base64", "triton vision") and concurrency == AT:
            return max(self.effort.seconds, min(_MANY * alone, 3 * _LONGEST * self.effort.seconds))
        return max(self.effort.seconds, min(_FEW * alone, _LONGEST * self.effort.seconds))


@contextmanager
def bench(stack: Stack, payloads: Payloads, directory: Path, effort: Effort, say: Say) -> Iterator[Bench]:
    """With all helpers running and everything warm."""
    with ExitStack() as running:
        load = running.enter_context(python_helper("harness.load_generator"))
        decoder = running.enter_context(python_helper("speed.decode_loop"))
        port, bare = running.enter_context(_bare(stack, payloads))
        gemm = _other_environment(running, ".venv-triton", _HERE / "gemm.py", say=say) if effort.gemm else None
        torch = None
        if effort.torch and stack.variant.startswith("PE-Core-"):
            # open_clip's spelling has a dash more: PE-Core-B-16; B16 and L14 leave out the image size.
            size = stack.image_size[0]
            short = stack.variant.removeprefix("PE-Core-").partition("-")[0]
            name = {"T16": "T-16-384", "S16": "S-16-384", "B16": "B-16", "L14": "L-14-336", "G14": "bigG-14-448"}[short]
            torch = _other_environment(
                running, ".venv-export", _HERE / "torch_loop.py", f"PE-Core-{name}", str(size), say=say
            )
        made = Bench(stack, payloads, directory, effort, load, decoder, port, bare, gemm, torch)
        made.image_s = _alone(made, "image base64")
        made.text_s = _alone(made, "text new")
        say(f"One image takes {made.image_s * 1e3:.1f} ms, one text {made.text_s * 1e3:.1f} ms.")
        for name in payloads.http:
            if "12" not in name and "list" not in name:
                made.http(name, seconds=max(0.5, 2 * made.image_s))
        yield made


def _alone(bench: Bench, name: str) -> float:
    """Seconds of one request by itself, after the first ones."""
    bench.http(name, 1, requests=3, seconds=30)
    return float(bench.http(name, 1, requests=5, seconds=30)["ms"]["p50"]) / 1e3


def memory(bench: Bench) -> Result:
    """The gateway's memory after requests of 640x480 at 8 in flight; as many as a minute allows."""
    requests = min(bench.effort.memory_requests, int(60 / max(bench.image_s / 2, 1e-4)))
    done = bench.http("image base64", AT, requests=requests, seconds=120)
    gateways = [cpu.memory_mb(pid) for pid in bench.stack.pids.get("gateway", [])]
    return {"requests": done["items_in_all"], "mb": max((m["now"] for m in gateways), default=float("nan")),
            "peak_mb": max((m["peak"] for m in gateways), default=float("nan"))}  # fmt: skip


def measurements(bench: Bench) -> dict[str, Callable[[], Result]]:
    """Names to measurements. Those of open loops need a closed loop's rate, so they follow it."""
    found: dict[str, Callable[[], Result]] = {}
    for level in bench.effort.levels:
        # Side by side, since their ratio is what is looked for.
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
        found["gemm"] = lambda: gemm.ask(seconds=bench.effort.seconds)
    if bench.torch:
        torch = bench.torch
        found["torch fp32"] = lambda: torch.ask(seconds=bench._seconds("torch", None))
    found |= {
        "triton vision open": lambda: bench.triton("vision", open_loop_of=f"triton vision {AT}"),
        "http image base64 open": lambda: bench.http("image base64", 1, open_loop_of=f"http image base64 {AT}"),
        "http text repeated open": lambda: bench.http("text repeated", 1, open_loop_of=f"http text repeated {AT}"),
    }
    return found


def rounds(bench: Bench, say: Say) -> Iterator[Series]:
    """All that was measured so far, after each round. What fails is told and left out; the rest is worth having."""
    planned: dict[str, Callable[[], Result]] = measurements(bench)
    series: Series = {}
    begun, longest = time.monotonic(), 0.0
    for number in range(bench.effort.rounds):
        started = time.monotonic()
        if started - begun + longest > bench.effort.minutes * 60:
            say(f"No time for a round {number + 1}.")
            return
        # The open loops stay last.
        closed, opened = ([n for n in planned if ("open" in n) is is_open] for is_open in (False, True))
        for name in (closed if number % 2 == 0 else closed[::-1]) + opened:
            try:
                result = planned[name]() | {"round": number}
            except (HelperFailed, perf_analyzer.PerfAnalyzerFailed) as error:
                say(f"{name}: {error}")
                continue
            bench.last[name] = result
            series.setdefault(name, []).append(result)
        longest = max(longest, time.monotonic() - started)
        say(f"Round {number + 1} of {bench.effort.rounds} took {time.monotonic() - started:.0f} s.")
        yield series


@contextmanager
def _bare(stack: Stack, payloads: Payloads) -> Iterator[tuple[int, int]]:
    """The bare routes' port and process."""
    (port,) = ports.free(1)
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.bench.speed.bare_routes", str(port), stack.triton_grpc, f"{stack.variant}-text",
         str(payloads.tokens)],
        stdin=subprocess.DEVNULL,
        process_group=0,
    )  # fmt: skip
    try:
        end = time.monotonic() + 30
        while not _listens(process.pid, port):
            if process.poll() is not None or time.monotonic() > end:
                raise HelperFailed("the bare route did not start")
            time.sleep(0.05)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(30)


def _listens(pid: int, port: int) -> bool:
    """Whether something does, without a connection that would be counted."""
    return f":{port:04X} 00000000:0000 0A" in Path(f"/proc/{pid}/net/tcp").read_text()


def _other_environment(running: ExitStack, name: str, script: Path, *arguments: str, say: Say) -> Helper | None:
    python = CHECKOUT / name / "bin/python"
    if not python.exists():
        say(f"{script.name} is left out: there is no {name}.")
        return None
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONHOME", "PYTHONPATH")}
    # -P: the script's folder is this package's, whose modules must not pass for others.
    return running.enter_context(Helper([python, "-P", script, *arguments], clean))
