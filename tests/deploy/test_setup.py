"""deploy/setup.sh, on a copy of what it reads: what it says, and that it goes on after an interruption."""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from deploy.embedded import hardware

ROOT: Final = Path(__file__).parents[2]
# An index that refuses every connection, so that no test waits for a real one.
NOWHERE: Final = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_FIND_LINKS": "",
    "PIP_RETRIES": "0",
    "UV_CONFIG_FILE": "",
    "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple",
    "UV_HTTP_RETRIES": "0",
    "UV_NO_CACHE": "1",
}

pytestmark = pytest.mark.slow


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    copy = tmp_path / "checkout"
    (copy / "deploy").mkdir(parents=True)
    (copy / "deploy/embedded").mkdir()
    scripts = ("setup.sh", "test_tools.sh", "container_tools.sh", "embedded/hardware.py")
    for name in (*(f"deploy/{script}" for script in scripts), "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    for name in ("gateway", "export"):
        (copy / name).mkdir()
    shutil.copytree(ROOT / "constraints", copy / "constraints")
    return copy


def start(checkout: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [checkout / "deploy/setup.sh", *arguments],
        env={**os.environ, **NOWHERE, **environment},
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def run(checkout: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    with start(checkout, *arguments, **environment) as process:
        said = process.communicate(timeout=300)[1]
    return process.returncode, said


def python(directory: Path, body: str) -> str:
    """A program that stands for Python."""
    program = directory / "python"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("arguments", [(), ("everything",)])
def test_says_how_it_is_called(checkout: Path, arguments: tuple[str, ...]) -> None:
    status, said = run(checkout, *arguments)
    assert (status, said) == (
        2,
        f"usage: {checkout}/deploy/setup.sh serve|openvino|cuda|bench|export|bulk|test|containers\n",
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("exit 127", "does not run. Install Python 3.11, 3.12 or 3.13, or name one: make PYTHON="),
        ("echo 3.9", "Python 3.11, 3.12 or 3.13 is needed, and"),
        ("echo 3.14", "is 3.14. Name another: make PYTHON=python3.12 serve"),
    ],
)
def test_another_python_is_named(checkout: Path, tmp_path: Path, body: str, message: str) -> None:
    status, said = run(checkout, "serve", PYTHON=python(tmp_path, body))
    assert status == 1
    assert message in said


def test_without_root_it_names_the_missing_packages(checkout: Path, tmp_path: Path) -> None:
    """As on a minimal Debian, whose Python has neither venv nor a shared library."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "id").write_text("#!/bin/sh\necho 1000\n")
    (commands / "id").chmod(0o755)
    minimal = python(tmp_path, 'case "$2" in *version_info*%*print*|*print*version_info*) echo 3.11;; *) exit 1;; esac')
    status, said = run(checkout, "serve", PYTHON=minimal, PATH=f"{commands}:{os.environ['PATH']}")
    assert status == 1
    assert "sudo apt-get install -y --no-install-recommends python3.11-venv libpython3.11" in said


def test_a_directory_of_somebody_else_is_left_alone(checkout: Path) -> None:
    (checkout / ".tools").mkdir()
    (checkout / ".tools/uv").symlink_to(ROOT / ".tools/uv")
    (checkout / ".venv-bench").mkdir()
    (checkout / ".venv-bench/mine").touch()
    status, _ = run(checkout, "bench")
    assert status == 1
    assert (checkout / ".venv-bench/mine").exists()


def test_without_a_network_it_says_so(checkout: Path) -> None:
    status, said = run(checkout, "serve")
    assert status == 1
    assert "uv could not be installed. Check the network, and pip's settings" in said
    assert "Traceback" not in said


# A program that stands for uv: it makes environments without packages, and writes down which pins it was to install.
UV: Final = r"""#!/bin/sh
case "$*" in
  *" venv --python "*) for environment; do :; done; exec python3 -m venv --without-pip "$environment" ;;
  *" pip sync "*) for pins; do :; done; echo "$pins" >>"$(dirname "$0")/installed" ;;
esac
"""


@pytest.fixture
def without_uv(checkout: Path) -> Path:
    """A checkout whose set-up installs nothing, in seconds."""
    uv = checkout / ".tools/uv/bin/uv"
    uv.parent.mkdir(parents=True)
    uv.write_text(UV)
    uv.chmod(0o755)
    (uv.parent / "python").symlink_to(sys.executable)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    made_from = f"{checkout}/.tools/uv {version}\n".encode() + (checkout / "constraints/uv.txt").read_bytes()
    (uv.parents[1] / ".made-from").write_text(hashlib.sha256(made_from).hexdigest())
    return checkout


def installed(checkout: Path) -> list[str]:
    """The files of pins that set-up installed since the last call."""
    said = checkout / ".tools/uv/bin/installed"
    names = said.read_text().split() if said.exists() else []
    said.unlink(missing_ok=True)
    return sorted(name.removeprefix("constraints/").removesuffix(".txt") for name in names)


def set_up(checkout: Path, target: str, engine: str = "") -> list[str]:
    status, said = run(checkout, target, PE_ONNX_ENGINE=engine, PYTHON=sys.executable)
    assert status == 0, said
    return installed(checkout)


def test_the_engine_of_this_cpu_is_installed_unasked(without_uv: Path) -> None:
    assert set_up(without_uv, "serve") == ["gateway", hardware.pins({})]
    assert set_up(without_uv, "serve") == []


@pytest.mark.parametrize(
    ("engine", "pins"),
    [("onnxruntime", "triton"), ("openvino", "triton-openvino"), ("openvino-bf16", "triton-openvino")],
)
def test_a_named_engine_is_installed(without_uv: Path, engine: str, pins: str) -> None:
    assert set_up(without_uv, "serve", engine) == ["gateway", pins]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("export", "Setting up .venv-export ... It has torch: 6 GB, and minutes without a line.\n"),
        ("openvino", "Setting up .venv-triton ...\n"),
    ],
)
def test_what_takes_long_is_announced(without_uv: Path, target: str, said: str) -> None:
    assert run(without_uv, target, PYTHON=sys.executable)[1].startswith(said)


def test_what_was_added_stays(without_uv: Path) -> None:
    """An engine that is not needed any more is not removed, or `make` would install and remove in turn."""
    assert set_up(without_uv, "serve", "onnxruntime") == ["gateway", "triton"]
    assert set_up(without_uv, "openvino") == ["triton-openvino"]
    assert set_up(without_uv, "serve", "onnxruntime") == []
    assert set_up(without_uv, "cuda") == ["triton-cuda"]
    for target, engine in (("serve", "onnxruntime"), ("serve", "openvino"), ("openvino", ""), ("cuda", "")):
        assert set_up(without_uv, target, engine) == []


def test_a_wrong_variable_is_reported_before_anything_is_installed(checkout: Path) -> None:
    for name in ("deploy/__init__.py", "export/__init__.py", "export/variants.py", "export/errors.py"):
        shutil.copy(ROOT / name, checkout / name)
    shutil.copytree(ROOT / "deploy/real_model", checkout / "deploy/real_model")
    status, said = run(checkout, "serve", VARIANT="PE-Core-B16", PYTHON=sys.executable)
    assert status == 2
    assert said.startswith("make serve: VARIANT=PE-Core-B16: unknown variant ")
    assert not (checkout / ".tools/uv").exists()


def test_the_environment_of_the_exporters_tests_also_exports(checkout: Path) -> None:
    """Or `make serve VARIANT=...` and `make test` would install and remove in turn."""
    environment = checkout / ".venv-export"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin/python").symlink_to(sys.executable)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    sources = [checkout / "constraints/export-dev.txt", checkout / "pyproject.toml"]
    made_from = f"{environment} {version}\n".encode() + b"".join(source.read_bytes() for source in sources)
    (environment / ".made-from").write_text(hashlib.sha256(made_from).hexdigest())
    assert run(checkout, "export", PYTHON=sys.executable) == (0, "")


def test_a_second_run_waits_for_the_first(checkout: Path) -> None:
    (checkout / ".tools").mkdir()
    with (checkout / ".tools/lock").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        with start(checkout, "export") as second:
            assert second.stderr is not None
            waiting = "Waiting for another run that is setting up this checkout ...\n"
            assert second.stderr.readline() == waiting
            assert not (checkout / ".tools/uv").exists()
            fcntl.flock(first, fcntl.LOCK_UN)
            said = second.communicate(timeout=300)[1]
    assert "uv could not be installed" in said  # It went on, and found no network.


def begin(checkout: Path) -> subprocess.Popen[str]:
    """Set up `serve` with the real index and cache."""
    return subprocess.Popen([checkout / "deploy/setup.sh", "serve"], stderr=subprocess.PIPE, text=True, process_group=0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a checkout, and not for its environments."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_run_that_a_full_disk_ended_is_continued(checkout: Path, small_disk: Path) -> None:
    moved = Path(shutil.move(checkout, small_disk))
    with begin(moved) as process:
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert "No space left on device" in said
    assert "Setup failed: see above. Check the disk, the network, and uv's settings (UV_DEFAULT_INDEX=URL" in said
    subprocess.run(["mount", "-o", "remount,size=2g", small_disk], check=True)
    with begin(moved) as process:
        said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    subprocess.run([moved / ".venv/bin/python", "-c", "import fastapi, tritonclient.grpc"], check=True)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_is_continued(checkout: Path, signum: int) -> None:
    """With the real index and a warm cache: it is killed while it installs, and the next run completes."""
    with begin(checkout) as process:
        while not (checkout / ".venv/pyvenv.cfg").exists() and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, signum)
        said = process.communicate(timeout=30)[1]
    assert process.returncode != 0
    if signum != signal.SIGKILL:
        assert said.count("Interrupted: run the same command again") == 1
    assert not (checkout / ".venv/.made-from").exists()
    (checkout / ".venv/pyvenv.cfg").unlink()  # as if it had been killed a moment before, or while it removed the folder
    with begin(checkout) as process:
        said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    subprocess.run([checkout / ".venv/bin/python", "-c", "import fastapi, tritonclient.grpc"], check=True)
    started = time.monotonic()
    with begin(checkout) as process:
        assert process.communicate(timeout=30)[1] == ""
    assert time.monotonic() - started < 10  # nothing is installed again
