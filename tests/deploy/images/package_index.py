"""How this machine reaches a package index, as files that a build gets as secrets: no image contains them."""

import os
import shlex
import ssl
import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
_KEPT: Final = ("index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout", "timeout")


def write_settings(directory: Path) -> dict[str, str]:
    """Write pip's settings and the certificates that it trusts. Return the variables that name the files.

    Settings that name a path of this machine are left out, because a build does not see the path.
    """
    listed = subprocess.run(
        [ROOT / ".tools/uv/bin/python", "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    pairs = (line.partition("=") for line in listed.splitlines())
    settings = {name.rpartition(".")[2]: shlex.split(value)[0] for name, _, value in pairs}
    authorities = Path(settings.get("cert") or ssl.get_default_verify_paths().cafile or os.devnull)
    kept: dict[str, str] = {name: _reachable(settings[name]) for name in _KEPT if name in settings}
    if proxy := os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        kept["proxy"] = proxy
    if certificates := authorities.read_text():
        kept["cert"] = "/run/secrets/ca.crt"
    pip, ca = directory / "pip.conf", directory / "ca.crt"
    ca.write_text(certificates)
    pip.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in kept.items() if value))
    return {"PIP_CONF": str(pip), "CA_CRT": str(ca)}


def _reachable(value: str) -> str:
    return " ".join(word for word in value.split() if not word.startswith(("/", "file:")))
