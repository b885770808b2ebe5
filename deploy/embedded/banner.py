"""The banner of `pe-serve`: printed once the server is ready, with the models and one command to copy."""

import json
import shlex
from typing import Any, Final

from deploy.embedded.endpoints import PortEndpoints
from deploy.embedded.engines import CUDA_GIGABYTES, ONNXRUNTIME, OPENVINO_BF16
from deploy.embedded.hardware import MIN_DRIVER

# A PNG of 64x64 pixels: a red disc on white.
_PICTURE: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQMAAACQp+OdAAAABlBMVEX////cHh7/Hx2WAAAAgklEQVR42rXRsRGCUBRE0cNKQCYdSCmURmmUYAmUQGBAwPAN"
    "dJzvDJnjRvfdzfbxz9y2N5SCcGEG11JWQk9HGGgJI6GhoBENTCIwihaG1w3RQV+bHrrafGCA9rT6ERbYT6sVttpssNZmh0UcMNcjmCiEmYOwsBNWNsKDezX4"
    "1wv+kyeEfR/7ocaY4gAAAABJRU5ErkJggg=="
)
_TOWERS: Final = ("vision", "text")
_PROMPTS: Final = ["a red circle", "a blue square", "a green triangle"]


def banner(
    base_url: str,
    info: dict[str, Any],
    local: bool,
    advice: str = "",
    triton: PortEndpoints | None = None,
    keys: bool = False,
) -> str:
    """Return the banner.

    Args:
        base_url: the gateway's URL.
        info: the body of `/info`.
        local: whether only this machine can reach the gateway.
        advice: the result of `gpu_advice` or `openvino_advice`.
        triton: Triton's own ports, if it has some.
        keys: whether requests need an API key.
    """
    models: dict[str, dict[str, Any]] = info.get("models") or {}
    reach = "this machine only; HOST=0.0.0.0 lets others in" if local else "every address of this machine"
    lines = [f"Ready on {base_url} ({reach}); documentation at {base_url}/docs", ""]
    for variant, model in models.items():
        lines += [f"  {variant}: {_facts(model)}", *(f"  {notice}" for notice in _notices(model)), ""]
    if triton:
        at = f"HTTP {triton.http}, gRPC {triton.grpc}, metrics http://{triton.metrics}/metrics"
        lines += [f"Triton's own ports, open to every user of this machine: {at}", ""]
    lines += _lowered(models)
    lines += [advice, ""] if advice else []
    key = ", with one of your API keys in place of KEY" if keys else ""
    lines += [f"Try it{key}:", "", curl(base_url, list(models), keys), "", "Ctrl-C stops it."]
    return "\n".join(lines)


def gpu_advice(driver: str, add_cuda: str, command: str) -> str:
    """Return advice to install what runs ONNX models on the NVIDIA GPU of this machine.

    Args:
        driver: the result of `nvidia_driver`.
        add_cuda: the command that installs onnxruntime for CUDA.
        command: the command that starts `pe-serve`.
    """
    major = driver.partition(".")[0]
    if major.isdecimal() and int(major) < MIN_DRIVER:
        return (
            f"The NVIDIA GPU of this machine is not used: its driver is {driver}. onnxruntime for CUDA 13 needs "
            f"{MIN_DRIVER} or newer."
        )
    return "\n".join(
        [
            "The NVIDIA GPU of this machine is not used. These commands install onnxruntime for CUDA 13 "
            f"({CUDA_GIGABYTES} GB) and use it:",
            f"  {add_cuda}",
            f"  {command}",
        ]
    )


def openvino_advice(info: dict[str, Any], bf16: bool, add_openvino: str | None, command: str) -> str:
    """Return advice to install OpenVINO, if that makes the served models faster on this CPU; otherwise "".

    Args:
        info: the body of `/info`.
        bf16: whether OpenVINO in BF16 is faster on this machine.
        add_openvino: the command that installs OpenVINO; None if it is installed, because `EngineChoice` then uses it.
        command: the command that starts `pe-serve`.
    """
    models: dict[str, dict[str, Any]] = info.get("models") or {}
    # The demo is too small to gain.
    slow = [v for v, m in models.items() if _runs(m) == "onnx fp32" and v != "PE-Demo-T8-64"]
    if not bf16 or not slow or not add_openvino:
        return ""
    return "\n".join(
        [
            f"This CPU is fast in BF16: {OPENVINO_BF16.engine.name} may run {', '.join(slow)} about twice as fast.",
            "(A B16-224 answered 1.8 to 2.5 times as many requests, at a minimum cosine of 0.9999 to FP32; "
            f"loading proves {OPENVINO_BF16.min_cosine}.)",
            f"  {add_openvino}",
            f"  {command}",
        ]
    )


def curl(base_url: str, variants: list[str], keys: bool = False) -> str:
    """Return a shell command that compares a picture with three texts."""
    body: dict[str, object] = {"subject": {"type": "base64", "value": _PICTURE}, "prompt": _PROMPTS}
    if len(variants) > 1:
        body["perception_encoder_version_id"] = variants[0]
    url = f"{base_url}/perception_encoder/compare"
    headers = "-H 'Content-Type: application/json'" + (" -H 'Authorization: Bearer KEY'" if keys else "")
    return f"curl -s {shlex.quote(url)} {headers} -d {shlex.quote(json.dumps(body))}"


def _facts(model: dict[str, Any]) -> str:
    size = "x".join(map(str, model.get("image_size", "?")))
    length, numbers = (model.get(key, "?") for key in ("context_length", "embed_dim"))
    runs = _runs(model) or ", ".join(f"{tower} {_runs(model[tower])}" for tower in _TOWERS if _runs(model.get(tower)))
    facts = f"images {size}, texts of up to {length} tokens, embeddings of {numbers} numbers"
    return facts + (f"; {runs}" if runs else "")


def _runs(facts: dict[str, Any] | None) -> str:
    """Return engine and precision of a model, or of a tower; "" if `/info` does not state both there."""
    stated = [str((facts or {}).get(key) or "") for key in ("engine", "precision")]
    return " ".join(stated) if all(stated) else ""


def _notices(model: dict[str, Any]) -> list[str]:
    return [str(model["notice"])] if model.get("notice") else []


def _lowered(models: dict[str, dict[str, Any]]) -> list[str]:
    """Say which variants are computed in another precision than they were exported in, and how to prevent it."""
    lowered = [
        variant
        for variant, model in models.items()
        if any(
            facts.get("exported_precision", facts.get("precision")) != facts.get("precision")
            for facts in (model | (model.get(tower) or {}) for tower in _TOWERS)
        )
    ]
    if not lowered:
        return []
    return [
        f"{', '.join(lowered)}: exported in FP32 and computed in BF16, which is faster on this CPU. FP32: --engine "
        f"{ONNXRUNTIME.backend}, or PE_ONNX_ENGINE={ONNXRUNTIME.backend}",
        "",
    ]
