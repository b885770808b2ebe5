"""The commands of deploy/bulk/search/README.md, word for word, but for the server's address, which `PE_URL` names."""

import os
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.bulk

ROOT: Final = Path(__file__).parents[4]
PAGE: Final = (ROOT / "deploy/bulk/search/README.md").read_text()
BLOCKS: Final = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_commands(server: str, tmp_path: Path) -> None:
    for name in (".venv-bulk", "gateway"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = {**os.environ, "PE_URL": server, "PYTHONPATH": str(ROOT)}
    assert re.findall(r"^make (\w+)", BLOCKS[0], re.MULTILINE) == ["serve", "bulk"]
    answers = [
        subprocess.run(
            ["bash", "-ec", block],
            cwd=tmp_path,
            env=environment,
            check=True,
            timeout=120,
            capture_output=True,
            text=True,
        ).stdout
        for block in BLOCKS[1:]
    ]
    (shown,) = re.findall(r"^```\n(rank.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    # The last digits depend on the CPU.
    assert re.sub(r"(\.\d\d)\d\d", r"\1", answers[0]) == re.sub(r"(\.\d\d)\d\d", r"\1", shown)
    assert "red-circle.jpg" in answers[1]
    assert '"matches"' in answers[1]
