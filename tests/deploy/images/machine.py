"""What a container engine does, as far as Linux does it without one: images as overlays of this very system, and
containers in them with a read-only root, an unprivileged user, no capabilities, and a network of their own.

What differs from an engine: an image's base is this system with a Python in front, and containers share one network and
one process table. Needs root.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.deploy.images.dockerfile import ROOT, Instruction, Stage

PYTHON = "/opt/python"
_PATH = f"{PYTHON}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What a builder is given besides: how to reach a package index.
_INDEX = ("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE")
_LO_UP = """
import fcntl, socket, struct
with socket.socket() as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", 1 | 64))  # SIOCSIFFLAGS: up, running
"""


@dataclass
class Image:
    """A layer on top of this system, and what the Dockerfile says of running it."""

    layer: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)


@dataclass
class Container:
    """A running one."""

    name: str
    image: Image
    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, seconds: float) -> int:
        """As an engine does; its exit status."""
        self.process.terminate()
        return self.process.wait(seconds)


class Machine:
    """The namespaces that images and containers live in."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._work = directory / "work"
        self._work.mkdir()
        self._number = 0
        self._running = ExitStack()

    def __enter__(self) -> Self:
        # Layers lie in memory: not every file system can be the upper part of an overlay.
        setup = f"mount --make-rprivate / && mount -t tmpfs -o mode=0755 layers {self._work}"
        self._builder = self._hold(["unshare", "--mount"], setup)
        into = ["nsenter", f"--target={self._builder}", "--mount", "unshare", "--mount", "--net"]
        hosts = self.directory / "hosts"
        hosts.write_text("127.0.0.1 localhost triton gateway prometheus\n")
        self._inside = self._hold(
            into, f"{shlex.join([sys.executable, '-c', _LO_UP])} && mount --bind {hosts} /etc/hosts"
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _hold(self, into: Sequence[str], setup: str) -> int:
        """A process that keeps namespaces alive; its id."""
        self._number += 1
        ready = self.directory / f"ready-{self._number}"
        process = subprocess.Popen([*into, "sh", "-c", f"{setup} && touch {ready} && exec sleep infinity"])
        self._running.callback(process.wait)
        self._running.callback(process.kill)
        while not ready.exists():
            assert process.poll() is None, setup
            time.sleep(0.01)
        return process.pid

    def run(self, command: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        """A command of the person at this machine."""
        within = ["nsenter", f"--target={self._inside}", "--mount", "--net", "bash", "-c", command]
        return subprocess.run(within, capture_output=True, text=True, check=False, timeout=120, **options)

    # -- images

    def python_image(self) -> Image:
        """What stands for the official image of Python: a Python with pip, first on the path."""
        image = self._layer(None)
        self._build(image, ["python", "-m", "venv", PYTHON], path=f"{Path(sys._base_executable).parent}:{_PATH}")  # type: ignore[attr-defined]
        return self._readable(image)

    def _readable(self, image: Image) -> Image:
        """A Python in somebody's home is for that person; one in an image is for all."""
        self._build(image, ["chmod", "a+x", *map(str, Path(sys.base_prefix).parents)])
        return image

    def image_with(self, files: Mapping[Path, str]) -> Image:
        """This system with files and directories of it at other places too."""
        image = self._layer(None)
        for source, target in files.items():
            self._on_the_builder(f"mkdir -p {image.layer}{Path(target).parent} && cp -a {source} {image.layer}{target}")
        return self._readable(image)

    def build(self, stages: Sequence[Stage], base: Image) -> Image:
        """The last stage's image; the first of them is `FROM` what `base` stands for."""
        built: dict[str, Image] = {}
        image = base
        for number, stage in enumerate(stages):
            image = self._layer(base if number == 0 else built[stage.base])
            directory = "/"
            for instruction in stage.instructions:
                directory = self._execute(image, directory, instruction, built)
            built[stage.name] = image
        return image

    def _layer(self, below: Image | None) -> Image:
        """An image like the one below, to be added to."""
        self._number += 1
        layer = self._work / f"layer-{self._number}"
        made = Image(layer) if below is None else Image(layer, dict(below.environment), below.user)
        copy = f"cp -a {below.layer}/. {layer}" if below else "true"
        self._on_the_builder(f"mkdir {layer} && {copy}")
        return made

    def _execute(self, image: Image, directory: str, step: Instruction, built: Mapping[str, Image]) -> str:
        """One instruction; returns the working directory after it."""
        match step.keyword:
            case "ENV":
                for word in step.words:
                    name, _, value = word.partition("=")
                    image.environment[name] = value.replace("$PATH", image.environment["PATH"])
            case "WORKDIR":
                self._on_the_builder(f"mkdir -p {image.layer}{step.value}")
                return step.value
            case "COPY" if step.value.startswith("--from="):
                stage, source, target = step.value.removeprefix("--from=").split()
                self._on_the_builder(
                    f"mkdir -p {image.layer}{target} && cp -a {built[stage].layer}{source}/. {image.layer}{target}"
                )
            case "COPY":
                *sources, target = step.words
                for source in sources:
                    self._copy(ROOT / source, f"{image.layer}{Path(directory) / target}", len(sources) > 1)
            case "RUN":
                self._build(image, ["sh", "-c", f"cd {directory} && {step.value}"])
            case "USER":
                image.user = step.value
            case "ENTRYPOINT":
                image.entrypoint = step.words
            case "HEALTHCHECK":
                image.healthcheck = Instruction("CMD", step.value.partition(" CMD ")[2]).words
            case "LABEL" | "EXPOSE":
                pass
            case _:
                raise NotImplementedError(step.keyword)
        return directory

    def _copy(self, source: Path, target: str, into: bool) -> None:
        if source.is_file():
            into_directory = into or target.endswith(("/", "/."))
            self._on_the_builder(f"cp {source} {target}{'/' if into_directory else ''}")
            return
        clean = self.directory / "context"
        shutil.rmtree(clean, ignore_errors=True)
        shutil.copytree(source, clean, ignore=shutil.ignore_patterns("__pycache__"))
        self._on_the_builder(f"mkdir -p {target} && cp -a {clean}/. {target}")

    def _build(self, image: Image, command: Sequence[str], path: str = "") -> None:
        environment = {name: value for name, value in os.environ.items() if name.startswith(_INDEX)}
        environment |= image.environment | ({"PATH": path} if path else {}) | {"HOME": "/root", "TMPDIR": "/tmp"}
        script = self._root(image.layer, [], ["/tmp"], read_only=False)
        self._on_the_builder(f"{script}\nexec chroot root env -i {_words(environment)} {shlex.join(command)}")

    def _on_the_builder(self, script: str) -> None:
        within = ["nsenter", f"--target={self._builder}", "--mount", "unshare", "--mount", "bash", "-ec", script]
        run = subprocess.run(within, capture_output=True, text=True, check=False, timeout=300)
        assert run.returncode == 0, f"{script}\n{run.stdout[-3000:]}\n{run.stderr[-3000:]}"

    # -- containers

    def volume(self, name: str) -> Path:
        """A named one, which all may write to that have it mounted so."""
        path = self.directory / "volumes" / name
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)
        return path

    def start(
        self,
        name: str,
        image: Image,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        user: str = "",
        volumes: Sequence[str] = (),
        tmpfs: Sequence[str] = (),
    ) -> Container:
        """A container with a read-only root; `volumes` as SOURCE:TARGET[:ro], sources absolute."""
        uid, gid = (user or image.user).split(":")
        confined = [
            *("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs"),
            *("--bounding-set=-all", "--inh-caps=-all"),
        ]
        script = self._root(image.layer, volumes, tmpfs, read_only=True)
        words = _words({**image.environment, **environment})
        script += f"\nexec chroot root env -i {words} {shlex.join([*confined, *command])}"
        log = self.directory / f"{name}.log"
        within = [
            "nsenter",
            f"--target={self._inside}",
            "--mount",
            "--net",
            "unshare",
            "--mount",
            "bash",
            "-ec",
            script,
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*within, "bash", "-ec", script], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        self._running.callback(process.wait)
        self._running.callback(process.kill)
        return Container(name, image, process, log)

    def wait_until_healthy(self, container: Container, check: Sequence[str], seconds: float = 60) -> None:
        """Until the check, run within the container as an engine does, succeeds."""
        path = shlex.quote(container.image.environment["PATH"])
        command = f"PATH={path} exec chroot /proc/{container.process.pid}/root {shlex.join(check)}"
        end = time.monotonic() + seconds
        while self.run(command).returncode != 0:
            assert container.process.poll() is None, f"{container.name} ended:\n{container.output()}"
            assert time.monotonic() < end, f"{container.name} is not healthy:\n{container.output()}"
            time.sleep(0.2)

    def _root(self, layer: Path, volumes: Sequence[str], tmpfs: Sequence[str], *, read_only: bool) -> str:
        """A script that makes ./root such a container's file system."""
        self._number += 1
        place = self._work / f"container-{self._number}"
        lines = [
            f"mkdir -p {place}/upper {place}/work {place}/root && cd {place}",
            # A container's own changes are its own; a build's are the image's.
            f"mount -t overlay overlay -o lowerdir={layer}:/,upperdir=upper,workdir=work root"
            if read_only
            else f"mount -t overlay overlay -o lowerdir=/,upperdir={layer},workdir=work root",
            "mount --rbind /proc root/proc && mount --rbind /dev root/dev",
        ]
        for volume in volumes:
            source, target, *mode = volume.split(":")
            make = f"mkdir -p root{target}"
            if Path(source).is_file():
                make = f"mkdir -p root{Path(target).parent} && touch root{target}"
            lines.append(f"{make} && mount --bind {shlex.quote(source)} root{target}")
            if mode == ["ro"]:
                lines.append(f"mount -o remount,bind,ro root{target}")
        lines += [f"mkdir -p root{path} && mount -t tmpfs -o mode=1777 tmpfs root{path}" for path in tmpfs]
        if any(ROOT.is_relative_to(path) for path in tmpfs):  # the environments in it stand in for an image's own
            checkout = shlex.quote(str(ROOT))
            lines.append(f"mkdir -p root{checkout} && mount --bind {checkout} root{checkout}")
        if read_only:
            lines += ["mount --bind /etc/hosts root/etc/hosts", "mount -o remount,ro root"]
        return "\n".join(lines)


def _words(environment: Mapping[str, str]) -> str:
    return shlex.join(f"{name}={value}" for name, value in environment.items())
