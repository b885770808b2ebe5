"""deploy/compose.yaml as Compose reads it: variables filled in, services of inactive profiles left out.

https://docs.docker.com/reference/compose-file/interpolation/ has the rules; of its forms, those that the file uses.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy/compose.yaml"

_NAME = re.compile(r"\$\{(\w+)")


class UnsetVariableError(Exception):
    """A `${NAME:?}` without a value."""


def defaults() -> dict[str, str]:
    """What deploy/.env.example says."""
    return _read(".env.example")


def _read(name: str) -> dict[str, str]:
    return {name: value or "" for name, value in dotenv_values(FILE.parent / name).items()}


def load(variables: Mapping[str, str]) -> dict[str, Any]:
    """The model for these variables; services by name, in an order in which they can start."""
    model: dict[str, Any] = _filled_in(yaml.safe_load(FILE.read_text()), variables)
    active = set(variables.get("COMPOSE_PROFILES", "").split(","))
    services = {
        name: service
        for name, service in model["services"].items()
        if not service.get("profiles") or active & set(service["profiles"])
    }
    for service in services.values():
        for name, how in dict(service.get("depends_on", {})).items():
            if name not in services:
                assert how.get("required") is False, f"{name} is needed and not there"
                del service["depends_on"][name]
        service["environment"] = {
            name: str(variables.get(name) if value is None else value)
            for name, value in service.get("environment", {}).items()
            if value is not None or name in variables
        }
    ordered: dict[str, Any] = {}
    while len(ordered) < len(services):
        ready = [
            name
            for name, service in services.items()
            if name not in ordered and set(service.get("depends_on", {})) <= set(ordered)
        ]
        assert ready, "services that wait for each other"
        ordered |= {name: services[name] for name in ready}
    return {**model, "services": ordered}


def _filled_in(node: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(node, str):
        return interpolate(node, variables)
    if isinstance(node, list):
        return [_filled_in(item, variables) for item in node]
    if isinstance(node, dict):
        return {key: _filled_in(value, variables) for key, value in node.items()}
    return node


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """`${NAME}`, `${NAME:-default}` and `${NAME:?}`, which may stand within each other; `$$` is a dollar."""
    done = ""
    while text:
        if text.startswith("$$"):
            done, text = done + "$", text[2:]
        elif found := _NAME.match(text):
            operator, text = _braced(text[found.end() :])
            value = variables.get(found[1], "")
            if not value and operator.startswith(":-"):
                value = interpolate(operator[2:], variables)
            if not value and operator.startswith(":?"):
                raise UnsetVariableError(found[1])
            done += value
        else:
            done, text = done + text[0], text[1:]
    return done


def _braced(text: str) -> tuple[str, str]:
    """What stands before the brace that closes, and what after it."""
    depth = 1
    for at, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return text[:at], text[at + 1 :]
    raise ValueError(f"no closing brace in {text!r}")


def seconds(duration: str) -> int:
    """A duration in Compose's notation, in seconds."""
    found = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", duration)
    assert found, duration
    return 60 * int(found[1] or 0) + int(found[2] or 0)
