"""Services of deploy/compose.yaml as containers of `machine`."""

import re
import shlex
from typing import Any

from tests.deploy.images.dockerfile import ROOT
from tests.deploy.images.machine import Container, Image, Machine


def start(machine: Machine, name: str, service: dict[str, Any], image: Image) -> Container:
    """As the Compose file describes it."""
    command = service.get("command", [])
    volumes = []
    for volume in service.get("volumes", []):
        source, _, rest = volume.partition(":")
        # A volume by name is as the image's folder of that name is: its user's.
        path = (ROOT / "deploy" / source).resolve() if source.startswith(".") else machine.volume(source)
        volumes.append(f"{path}:{rest}")
    return machine.start(
        name,
        image,
        [*image.entrypoint, *(shlex.split(command) if isinstance(command, str) else command)],
        service["environment"],
        user=service.get("user", ""),
        volumes=volumes,
        tmpfs=service.get("tmpfs", []),
    )


def seconds(duration: str) -> int:
    """Of Compose's notation."""
    found = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", duration)
    assert found, duration
    return 60 * int(found[1] or 0) + int(found[2] or 0)
