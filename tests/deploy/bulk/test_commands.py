"""`pe-embed` and `pe-search` in an environment without their packages, such as `.venv` after `make serve`."""

import subprocess
import sys

import pytest

from deploy.bulk import commands

pytestmark = pytest.mark.bulk


@pytest.mark.parametrize(
    ("entry", "arguments"),
    [
        ("embed", ["pe-embed", "pictures", "--out", "a.parquet"]),
        ("search", ["pe-search", "a cat", "--in", "a.parquet"]),
    ],
)
def test_a_missing_package_is_named_with_its_remedy(entry: str, arguments: list[str]) -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None; sys.argv = " + repr(arguments) + "; "
        f"from deploy.bulk import commands; sys.exit(commands.{entry}())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == (
        f"{arguments[0]}: pyarrow is not installed in this environment. In a checkout, `make bulk` makes "
        f".venv-bulk/bin/{arguments[0]}. Elsewhere, install this package with the extra `bulk`.\n"
    )


def test_another_missing_module_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deploy.bulk.cli", None)
    with pytest.raises(ModuleNotFoundError):
        commands.embed()
