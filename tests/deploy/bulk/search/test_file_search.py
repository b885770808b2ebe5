from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from deploy.bulk.outputs.registry import open_output
from deploy.bulk.rows import EmbeddingSpace, Row, Run
from deploy.bulk.search.file_search import FileSearch

pytestmark = pytest.mark.bulk


@pytest.mark.parametrize(("name", "column"), [("rows.parquet", "row"), ("rows.npy", "place")])
def test_a_match_has_the_columns_of_the_source(tmp_path: Path, name: str, column: str) -> None:
    path = str(tmp_path / name)
    vector = np.array([0, 1], np.float32)
    output = open_output(Namespace(out=path, into=None), Run(EmbeddingSpace("PE-Test@0", 2), "float32", "texts", "1/1"))
    output.write([Row("a", vector, None, {column: 7})])
    output.close()
    (match,) = FileSearch(path).search(vector, 1, None)
    assert match.columns == {column: 7}
