"""Libraries that speak OpenAI's interface, unchanged and with their defaults, against the real stack."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import httpx2
import numpy as np
import openai
import pytest

from tests.tools import ROOT, find_tool

pytestmark = pytest.mark.triton

HERE: Final = Path(__file__).parent / "openai_clients"
MODEL: Final = "PE-Demo-T8-64"
# As many as OpenAI takes in one request. Some clients send them at once, others in parts of a hundred or more.
TEXTS: Final = [f"a red circle beside {i} blue squares" for i in range(2_048)]


@pytest.fixture(scope="module")
def expected(base_url: str) -> list[list[float]]:
    """The embeddings of `TEXTS`, and once more of the first one, which each client also asks for alone."""
    with httpx2.Client(base_url=base_url, timeout=60) as client:
        rows = client.post("/perception_encoder/embed_text", json={"text": TEXTS}).json()["embeddings"]
    return [*rows, rows[0]]


def run(name: str, base_url: str, texts: list[str]) -> Any:
    """Run a client in its own environment."""
    python = name not in ("openai", "ai-sdk")
    program = ROOT / ".venv-clients/bin/python" if python else find_tool("node")
    script = HERE / ("clients.py" if python else "clients.cjs")
    done = subprocess.run(
        [program, script, name, base_url, MODEL],
        input=json.dumps(texts),
        env={**os.environ, "NODE_PATH": str(ROOT / ".tools/clients/node_modules")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def documented_version(package: str) -> str:
    """The version in the table of clients."""
    page = (ROOT / "gateway/http/compatibility.md").read_text("utf-8")
    found = re.search(rf"^\| {re.escape(package)} \| ([\d.]+) \|", page, re.MULTILINE)
    assert found, f"the table of clients lacks {package}"
    return found[1]


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("langchain", "`langchain-openai`"),
        ("llama-index", "`llama-index-embeddings-openai`"),
        ("litellm", "`litellm`"),
        ("openai", "`openai` (npm)"),
        ("ai-sdk", "`ai` with `@ai-sdk/openai` (npm)"),
    ],
)
def test_a_list_and_one_text(base_url: str, expected: list[list[float]], name: str, package: str) -> None:
    answer = run(name, base_url, TEXTS)
    np.testing.assert_allclose(answer["embeddings"], expected, atol=1e-5)
    assert answer["version"] == documented_version(package)


def test_openais_own_client(base_url: str, expected: list[list[float]]) -> None:
    with openai.OpenAI(base_url=f"{base_url}/v1", api_key="none") as client:
        answer = client.embeddings.create(model=MODEL, input=TEXTS)
    np.testing.assert_allclose([item.embedding for item in answer.data], expected[:-1], atol=1e-5)
    assert openai.__version__ == documented_version("`openai`")


def test_token_ids_say_what_to_change(base_url: str) -> None:
    """LangChain's default."""
    error = run("langchain-as-it-comes", base_url, ["a red circle"])["error"]
    assert "OpenAIEmbeddings(check_embedding_ctx_length=False)" in error
