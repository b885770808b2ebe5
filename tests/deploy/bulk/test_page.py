"""The commands of deploy/bulk/README.md, word for word, but for the server's address, which `PE_URL` names."""

import os
import re
import subprocess
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.bulk

ROOT: Final = Path(__file__).parents[3]
BLOCKS: Final = re.findall(
    r"^```bash\n(.*?)^```", (ROOT / "deploy/bulk/README.md").read_text(), re.MULTILINE | re.DOTALL
)


def test_the_commands_before_are_make_s() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"^make (\w+)", BLOCKS[0], re.MULTILINE)) == {"serve", "bulk"} <= set(targets)


def test_pe_embed(server: str, tmp_path: Path) -> None:
    for name in (".venv-bulk", "gateway"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = {**os.environ, "PE_URL": server, "PYTHONPATH": str(ROOT)}
    (command,) = BLOCKS[1:]
    subprocess.run(["bash", "-ec", command], cwd=tmp_path, env=environment, check=True, timeout=120)
    table = pq.read_table(tmp_path / "pictures.parquet")
    assert table.num_rows >= 36
    assert table["error"].null_count == table.num_rows
