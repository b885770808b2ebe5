"""Bring packages without a network, with small wheels."""

import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from deploy.bench.gpu import bring


def wheel(folder: Path, name: str, code: str) -> Path:
    """Write a wheel of one module."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}.py", code)
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


def test_every_requirement_is_pinned_or_bounded() -> None:
    found = bring.groups()
    assert list(found) == ["rtx", "cuda", "stack"]
    for environments in found.values():
        for requirements in environments.values():
            assert requirements
            assert all("==" in one or one == "onnxruntime-gpu>=1.31,<2" for one in requirements)
    assert not any(one.startswith("onnxruntime==") for one in found["stack"][bring.TRITON])
    assert {one.split("==")[0] for one in found["rtx"][bring.EXPORT]} == set(bring._OF_EXPORT)


def test_parts_are_joined(tmp_path: Path) -> None:
    wheels = [wheel(tmp_path, name, "x = 1\n" * 500) for name in ("one", "two")]
    environments = {bring.EXPORT: [wheels[0].name], bring.TRITON: [path.name for path in wheels]}
    (tmp_path / "group.tar.1-of-1").write_text("of an earlier run")
    parts = bring.write_parts(tmp_path, "group", wheels, environments, 1500)
    assert len(parts) > 2
    assert sorted(tmp_path.glob("group.tar.*")) == sorted(parts)
    assert max(part.stat().st_size for part in parts) == 1500
    assert bring.join(tmp_path, "group", tmp_path / "joined") == environments
    for path in wheels:
        assert (tmp_path / "joined" / path.name).read_bytes() == path.read_bytes()
    parts[1].unlink()
    with pytest.raises(FileNotFoundError, match=rf"lacks {parts[1].name}$"):
        bring.join(tmp_path, "group", tmp_path / "again")
    with pytest.raises(FileNotFoundError, match=r"lacks other\.tar\.1-of-1"):
        bring.join(tmp_path, "other", tmp_path / "again")


@pytest.mark.slow
def test_environments_are_made_from_parts(tmp_path: Path) -> None:
    parts, checkout = tmp_path / "parts", tmp_path / "checkout"
    parts.mkdir()
    (checkout / "gateway").mkdir(parents=True)
    (checkout / "gateway/__init__.py").write_text("CHECKOUT = True\n")
    made = wheel(tmp_path, "brought", "VALUE = 7\n")
    later = wheel(tmp_path, "later", "VALUE = 8\n")
    bring.write_parts(parts, "rtx", [made], {bring.EXPORT: [made.name], bring.TRITON: [made.name]}, 500)
    bring.write_parts(parts, "cuda", [later], {bring.EXPORT: [later.name]}, 500)
    bring.install(parts, ["rtx", "cuda"], checkout)

    def run(environment: str, code: str) -> str:
        python = checkout / environment / "bin/python"
        command = [str(python), "-P", "-c", code]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, env={}).stdout.strip()

    assert run(bring.EXPORT, "import brought, later; print(brought.VALUE, later.VALUE)") == "7 8"
    assert run(bring.EXPORT, "import gateway; print(gateway.CHECKOUT)") == "True"
    seen = json.loads(run(bring.EXPORT, "import json, sys; print(json.dumps(sys.path))"))
    ours = sysconfig.get_path("purelib")
    assert seen.index(str(checkout)) < seen.index(ours)  # The checkout's modules come first.
    assert run(bring.TRITON, "import brought; print(brought.VALUE)") == "7"
    assert ours not in run(bring.TRITON, "import sys; print(sys.path)")


def test_an_unknown_group_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        bring.main(["install", str(tmp_path), "nothing"])
    assert "choose from rtx, cuda, stack" in capsys.readouterr().err
    assert bring.main(["install", str(tmp_path), "rtx"]) == 1
    assert "lacks rtx.tar.1-of-1" in capsys.readouterr().err


@pytest.mark.slow
def test_needs_the_standard_library_alone() -> None:
    command = [sys.executable, "-I", "-S", bring.__file__, "install", "nowhere", "rtx"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "bring: nowhere lacks" in done.stderr
