"""Measure a few rates of the gateway, in a minute."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from deploy.bench.harness import client, worker
from deploy.bench.speed.inputs import photograph_files

_IN_FLIGHT: Final = (1, 8, 32)
_LIST: Final = 16


def measure(url: str, variant: str, directory: Path, seconds: float) -> list[dict[str, Any]]:
    """Measure raw pictures, lists of pictures, and new short texts.

    Args:
        url: the gateway, http://host:port.
        variant: the variant to ask for.
        directory: for the bodies.
        seconds: the length of one measurement, after a third of it that does not count.

    Returns:
        One dictionary for each measurement: `what`, `in_flight`, and what `load_generator.summary` returns.

    Raises:
        WorkerFailed: the load generator failed.
    """
    version = {"perception_encoder_version_id": variant}
    files = photograph_files()
    raw = _write(directory, "raw", files)
    images = [client.image_json(file) for file in files]
    lists = _write(directory, "list", [_json({**version, "image": (images * _LIST)[:_LIST]})])
    text = _write(directory, "text", [_json({**version, "text": "@TEXT@"})])
    image_path = f"{client.IMAGE}?perception_encoder_version_id={variant}"
    plans: list[tuple[str, int, dict[str, Any]]] = [
        *(("picture", level, {"path": image_path, "files": raw, "kind": "image/jpeg"}) for level in _IN_FLIGHT),
        (f"list of {_LIST} pictures", 2, {"path": client.IMAGE, "files": lists, "items": _LIST}),
        *(("new text", level, {"path": client.TEXT, "files": text}) for level in _IN_FLIGHT),
    ]
    found, texts = [], 0
    with worker.load_generator() as load:
        for what, level, fields in plans:
            if what == "new text":
                texts += 100_000
                fields = {**fields, "texts_from": texts}
            result = load.request(
                url=url, seconds=seconds, warmup=seconds / 3, concurrency=level, headers=client.key_header(), **fields
            )
            found.append({"what": what, "in_flight": level, **result})
    return found


def _write(directory: Path, name: str, bodies: Sequence[bytes]) -> list[str]:
    paths = [directory / f"{name}-{number}" for number in range(len(bodies))]
    for path, body in zip(paths, bodies, strict=True):
        path.write_bytes(body)
    return [str(path) for path in paths]


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
