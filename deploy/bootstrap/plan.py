"""Which environments a target needs, and what each consists of."""

import fcntl
import re
import signal
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from deploy.bootstrap import system
from deploy.bootstrap.environment import Environment, Processes
from deploy.bootstrap.kustomize import Kustomize
from deploy.bootstrap.tools import PACKAGES, Tools

Say = Callable[[str], None]
Part = Environment | Tools | Kustomize
ROOT = Path(__file__).parents[2]
# What the exporter's tests share with the gateway's; the versions stand in pyproject.toml once.
_EXPORT_TESTS = ("hypothesis", "mypy", "pytest", "pytest-asyncio", "scikit-image", "tokenizers")


def bring_up_to_date(target: str, say: Say) -> None:
    """Says in a line each what it does, or nothing. Raises BootstrapError or KeyboardInterrupt."""
    if not _unfinished(target):
        return
    with _alone(say), _terminable():
        environments = _unfinished(target)  # another run may have done it while this one waited
        if not environments:
            return
        _install_system_packages(target, say)
        say(f"Setting up {', '.join(environment.name for environment in environments)} ...")
        _build(environments, say)


def _unfinished(target: str) -> list[Part]:
    everything: list[Part] = [*describe(target)]
    if target == "test":
        everything += [Tools(ROOT, PACKAGES), Kustomize(ROOT)]
    return [part for part in everything if part.missing()]


def describe(target: str, root: Path = ROOT) -> list[Environment]:
    """The environments of "serve", "openvino", "bench", "export" or "test"."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    everything = [*project["dependencies"], *(item for extra in extras.values() for item in extra)]
    with_tests = target == "test"
    with_bench = target in ("bench", "test")
    # An editable installation is redone when what it writes down may have changed.
    written_down = [project["dependencies"], project.get("scripts"), project["version"]]
    embedded, openvino = (root / "deploy/embedded" / name for name in ("requirements.txt", "requirements-openvino.txt"))

    def environment(
        name: str, purpose: str, constraints: str, layers: dict[str, list[list[str]]], *requirements: Path
    ) -> Environment:
        file = root / "constraints" / constraints
        tested = file.read_text() if file.exists() else ""
        pinned = {
            layer: [[*arguments, *(["-c", str(file)] if tested else [])] for arguments in calls]
            for layer, calls in layers.items()
        }
        required = [file.read_text() for file in requirements]
        return Environment(root, name, purpose, pinned, determined_by=[tested, written_down, *required])

    gateway = environment(
        ".venv",
        "the gateway, with its tests" if with_tests else "the gateway",
        "gateway.txt",
        {
            "gateway": [["-e", str(root)]],
            **({"tests": [[*extras["test"], *extras["check"]]]} if with_tests else {}),
            **({"bench": [extras["bench"]]} if with_bench else {}),
        },
    )
    # Without dependencies: the wheel's Python API, which we do not use, has thirty, and its server needs none of them.
    with_openvino = target in ("openvino", "test")
    triton = environment(
        ".venv-triton",
        "Triton, onnxruntime and OpenVINO" if with_openvino else "Triton and onnxruntime",
        "triton.txt",
        {
            "triton": [["--no-deps", "-r", str(embedded)]],
            **({"openvino": [["--no-deps", "-r", str(openvino)]]} if with_openvino else {}),
        },
        embedded,
        openvino,
    )
    export = environment(
        ".venv-export",
        "torch and the exporter",
        "export.txt",
        {
            "export": [extras["export"], ["--no-deps", "-e", str(root)]],
            **({"tests": [_named(_EXPORT_TESTS, everything)]} if with_tests else {}),
        },
    )
    # The last tritonclient whose wheel carries perf_analyzer, and the one CUDA library that it links; its own needs (an
    # older numpy) are those of a Python client that nobody imports.
    load = environment(
        ".venv-bench",
        "NVIDIA's perf_analyzer",
        "bench.txt",
        {"bench": [["--no-deps", "tritonclient==2.50.0", "nvidia-cuda-runtime-cu12==12.9.79"]]},
    )
    return {
        "serve": [gateway, triton],
        "openvino": [triton],
        "bench": [gateway, triton, load],
        "export": [export],
        "test": [gateway, triton, export, load],
    }[target]


def _named(names: tuple[str, ...], requirements: list[str]) -> list[str]:
    found = {re.split(r"[^\w.-]", requirement, maxsplit=1)[0]: requirement for requirement in requirements}
    return [found[name] for name in names]


def _install_system_packages(target: str, say: Say) -> None:
    packages = system.missing_for_venv()
    if target in ("serve", "openvino", "bench", "test"):
        system.require_linux_x86_64()
        packages += system.missing_for_triton()
    if target == "test":
        packages += system.missing_for_opencv() + system.missing_for_kustomize() + system.missing_for_browser()
    if target in ("bench", "test"):
        packages += system.missing_for_perf_analyzer()
    if packages:
        say(f"Installing {', '.join(packages)} from the system's packages ...")
        system.install(packages)


def _build(environments: list[Part], say: Say) -> None:
    """All at once: while one waits for the network, another unpacks."""
    processes = Processes()
    with ThreadPoolExecutor(len(environments)) as pool:
        running: set[Any] = {pool.submit(environment.build, processes) for environment in environments}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    say(f"  {future.result()}")
        except BaseException:
            processes.stop()
            raise


@contextmanager
def _alone(say: Say) -> Iterator[None]:
    """One at a time in a checkout. This very file is the lock; the kernel drops it with the process."""
    with Path(__file__).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another run that is setting up this checkout ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM, which is what a build system sends, ends it as tidily as Ctrl-C."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
