"""Does every plan in a model repository fit this machine? Asked before Triton, which would only fail to load it.

Nothing here needs more than Python: it runs inside the serving image, which has neither torch nor numpy.
"""

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_LIBRARY_DIRECTORIES = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/local/tensorrt/lib",
    "/opt/tensorrt/lib",
)
_LIBRARY = re.compile(r"libnvinfer\.so\.(\d+\.\d+\.\d+)$")


@dataclass(frozen=True)
class Machine:
    """What plans are run by here."""

    tensorrt: str
    """Version of the TensorRT library; empty if there is none."""
    compute_capabilities: tuple[str, ...]
    """Of each GPU, without the dot; empty if there is none."""


def this_machine() -> Machine:
    """From the libraries that Triton will load, and the driver's own tool."""
    versions = [
        found[1]
        for directory in _LIBRARY_DIRECTORIES
        for path in sorted(Path(directory).glob("libnvinfer.so.*"))
        if (found := _LIBRARY.search(path.name))
    ]
    try:
        query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        answer = ""
    return Machine(versions[0] if versions else "", tuple(line.strip().replace(".", "") for line in answer.split()))


def misfits(repository: Path, machine: Machine) -> Iterator[str]:
    """One line for each plan that Triton could not load here, with the command that builds it anew."""
    for certificate in sorted(repository.glob("*/*/parity.json"), key=lambda path: (path.parent.parent, _number(path))):
        model = certificate.parent.parent
        if _number(certificate) != max(map(_number, model.glob("*/parity.json"))):
            continue  # Triton serves the newest version
        inputs = json.loads(certificate.read_text("utf-8"))["inputs"]
        if inputs["engine"] == "tensorrt":
            reasons = list(_reasons(inputs["target"], machine))
            if reasons:
                yield (
                    f"{model.name}: {'; '.join(reasons)}. Build it anew here: "
                    f"pe-export {inputs['variant']} --engine tensorrt --precision {inputs['precision']}"
                )


def _reasons(target: str, machine: Machine) -> Iterable[str]:
    # A plan loads only under the TensorRT that built it, and on the compute capability that it was built for.
    fields = dict(zip(("tensorrt", "gpu"), re.findall(r"tensorrt (\S+) sm(\d+)", target)[0], strict=True))
    if not machine.tensorrt:
        yield f"it is a plan of TensorRT {fields['tensorrt']}, and there is no TensorRT here"
    elif fields["tensorrt"].split(".")[:3] != machine.tensorrt.split(".")[:3]:
        yield f"it is a plan of TensorRT {fields['tensorrt']}, and here is {machine.tensorrt}"
    if not machine.compute_capabilities:
        yield f"it is for a GPU of compute capability {fields['gpu']}, and there is no GPU here"
    elif any(capability != fields["gpu"] for capability in machine.compute_capabilities):
        yield f"it is for compute capability {fields['gpu']}, and here is {', '.join(machine.compute_capabilities)}"


def _number(certificate: Path) -> int:
    name = certificate.parent.name
    return int(name) if name.isdecimal() else 0
