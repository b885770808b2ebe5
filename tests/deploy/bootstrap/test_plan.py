import multiprocessing
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from deploy.bootstrap import plan


def arguments(target: str, name: str, layer: str) -> str:
    (environment,) = (environment for environment in plan.describe(target) if environment.name == name)
    return " ".join(argument for call in environment.layers[layer] for argument in call)


def test_serving_needs_two_environments_and_no_torch() -> None:
    assert [environment.name for environment in plan.describe("serve")] == [".venv", ".venv-triton"]
    for environment in plan.describe("serve"):
        assert list(environment.layers) == [environment.name.removeprefix(".venv").removeprefix("-") or "gateway"]
        assert "torch" not in str(environment.layers)


def test_tests_need_everything() -> None:
    names = {environment.name: list(environment.layers) for environment in plan.describe("test")}
    assert names == {
        ".venv": ["gateway", "tests", "bench"],
        ".venv-triton": ["triton", "openvino"],
        ".venv-export": ["export", "tests"],
        ".venv-bench": ["bench"],
    }
    assert "inference-sdk" in arguments("test", ".venv", "tests")


def test_openvino_comes_on_request_into_the_environment_of_triton() -> None:
    (environment,) = plan.describe("openvino")
    assert (environment.name, list(environment.layers)) == (".venv-triton", ["triton", "openvino"])
    assert "openvino" not in str(plan.describe("serve")[1].layers)
    assert arguments("serve", ".venv-triton", "triton") == arguments("openvino", ".venv-triton", "triton")


def test_the_exporter_does_not_get_the_gateways_needs() -> None:
    export = arguments("export", ".venv-export", "export")
    assert "torch" in export
    assert "tritonclient" in export
    assert f"--no-deps -e {plan.ROOT}" in export
    assert "fastapi" not in export


def test_what_serving_installed_is_what_testing_expects() -> None:
    for name in (".venv", ".venv-triton"):
        layer = "gateway" if name == ".venv" else "triton"
        assert arguments("serve", name, layer) == arguments("test", name, layer)


def test_tested_versions_are_used_where_they_are_written_down(tmp_path: Path) -> None:
    assert f"-c {plan.ROOT}/constraints/triton.txt" in arguments("serve", ".venv-triton", "triton")
    assert f"-c {plan.ROOT}/constraints/gateway.txt" in arguments("serve", ".venv", "gateway")


def copy_of_project(root: Path) -> Path:
    for name in (
        "pyproject.toml",
        "constraints/gateway.txt",
        "deploy/embedded/requirements.txt",
        "deploy/embedded/requirements-openvino.txt",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text((plan.ROOT / name).read_text())
    return root


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("pyproject.toml", "line-length = ", "line-length = 1", False),
        ("pyproject.toml", '"fastapi', '"starlette', True),
        ("constraints/gateway.txt", "fastapi==", "fastapi==9", True),
        ("deploy/embedded/requirements.txt", "numpy", "scipy", True),
        ("deploy/embedded/requirements-openvino.txt", "openvino>", "openvino>9", True),
    ],
)
def test_what_makes_an_environment_out_of_date(tmp_path: Path, file: str, old: str, new: str, changes: bool) -> None:
    def digests() -> list[str]:
        return [
            environment._digest(layer)
            for environment in plan.describe("test", tmp_path)
            for layer in environment.layers
        ]

    copy_of_project(tmp_path)
    before = digests()
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new))
    assert (digests() != before) == changes


def test_says_nothing_where_nothing_is_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(plan, "_unfinished", lambda target: [])
    plan.bring_up_to_date("serve", said.append)
    assert said == []


def hold_the_lock(held: Event, free: Event) -> None:
    with plan._alone(lambda _: None):
        held.set()
        free.wait(60)


def test_two_at_once_take_turns() -> None:
    context = multiprocessing.get_context("spawn")
    held, free = context.Event(), context.Event()
    other = context.Process(target=hold_the_lock, args=(held, free))
    other.start()
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        free.set()

    try:
        assert held.wait(60)
        with plan._alone(say):
            pass
    finally:
        free.set()
        other.join()
    assert said == ["Waiting for another run that is setting up this checkout ..."]
