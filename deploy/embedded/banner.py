"""The banner of `pe-serve`: printed once the server is ready, with the models and one command to copy."""

import json
import shlex
from typing import Any, Final

from deploy.embedded.endpoints import PortEndpoints
from deploy.embedded.engines import OPENVINO_BF16

# A PNG of 64x64 pixels: a red disc on white.
_PICTURE: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQMAAACQp+OdAAAABlBMVEX////cHh7/Hx2WAAAAgklEQVR42rXRsRGCUBRE0cNKQCYdSCmURmmUYAmUQGBAwPAN"
    "dJzvDJnjRvfdzfbxz9y2N5SCcGEG11JWQk9HGGgJI6GhoBENTCIwihaG1w3RQV+bHrrafGCA9rT6ERbYT6sVttpssNZmh0UcMNcjmCiEmYOwsBNWNsKDezX4"
    "1wv+kyeEfR/7ocaY4gAAAABJRU5ErkJggg=="
)
_PROMPTS: Final = ["a red circle", "a blue square", "a green triangle"]


def banner(
    base_url: str, info: dict[str, Any], local: bool, advice: str = "", triton: PortEndpoints | None = None
) -> str:
    """Return the banner.

    Args:
        base_url: the gateway's URL.
        info: the body of `/info`.
        local: whether only this machine can reach the gateway.
        advice: the result of `advice`.
        triton: Triton's own ports, if it has some.
    """
    models: dict[str, dict[str, Any]] = info.get("models") or {}
    reach = "this machine only; --host 0.0.0.0 lets others in" if local else "every address of this machine"
    lines = [f"Ready on {base_url} ({reach}); documentation at {base_url}/docs", ""]
    for variant, model in models.items():
        lines += [f"  {variant}: {_facts(model)}", *(f"  {notice}" for notice in _notices(model)), ""]
    if triton:
        at = f"HTTP {triton.http}, gRPC {triton.grpc}, metrics http://{triton.metrics}/metrics"
        lines += [f"Triton's own ports, open to every user of this machine: {at}", ""]
    lines += [advice, ""] if advice else []
    lines += ["Try it:", "", curl(base_url, list(models)), "", "Ctrl-C stops it."]
    return "\n".join(lines)


def advice(info: dict[str, Any], bf16: bool, add_openvino: str | None, command: str) -> str:
    """Return advice to install OpenVINO, if that makes the served models faster on this CPU; otherwise "".

    Args:
        info: the body of `/info`.
        bf16: whether OpenVINO in BF16 is faster on this machine.
        add_openvino: the command that installs OpenVINO; None if it is installed, because `EngineChoice` then uses it.
        command: the command that starts `pe-serve`.
    """
    models: dict[str, dict[str, Any]] = info.get("models") or {}
    # The demo is too small for BF16: its text tower misses the parity limit.
    slow = [v for v, m in models.items() if _runs(m) == ["onnx", "fp32"] and v != "PE-Demo-T8-64"]
    if not bf16 or not slow or not add_openvino:
        return ""
    return "\n".join(
        [
            f"This CPU is fast in BF16: {OPENVINO_BF16.engine.name} may run {', '.join(slow)} about twice as fast.",
            "(A B16-224 was 1.5 to 2.3 times as fast, at a minimum cosine of 0.99997 to FP32; "
            f"loading proves {OPENVINO_BF16.min_cosine}.)",
            f"  {add_openvino}",
            f"  {command}",
        ]
    )


def curl(base_url: str, variants: list[str]) -> str:
    """Return a shell command that compares a picture with three texts."""
    body: dict[str, object] = {"subject": {"type": "base64", "value": _PICTURE}, "prompt": _PROMPTS}
    if len(variants) > 1:
        body["perception_encoder_version_id"] = variants[0]
    url = f"{base_url}/perception_encoder/compare"
    return f"curl -s {shlex.quote(url)} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"


def _facts(model: dict[str, Any]) -> str:
    size = "x".join(map(str, model.get("image_size", "?")))
    length, numbers = (model.get(key, "?") for key in ("context_length", "embed_dim"))
    runs = " ".join(_runs(model))
    return f"images {size}, texts of up to {length} tokens, embeddings of {numbers} numbers" + (
        f"; {runs}" if runs else ""
    )


def _runs(model: dict[str, Any]) -> list[str]:
    """Return engine and precision. `/info` leaves out what differs between the towers."""
    return [str(model[key]) for key in ("engine", "precision") if model.get(key)]


def _notices(model: dict[str, Any]) -> list[str]:
    return [str(model["notice"])] if model.get("notice") else []
