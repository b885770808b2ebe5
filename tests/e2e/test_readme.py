"""The commands of the first page and two of the gateway's, word for word, except for the port: 9001 may be taken."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import PeServe, free_port

pytestmark = pytest.mark.triton

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(
    r"^```(\w+)\n(.*?)^```", README + (ROOT / "gateway/README.md").read_text(), re.MULTILINE | re.DOTALL
)


CLASSIFY = dict(re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "gateway/http/classify.md").read_text(), re.M | re.S))


def blocks(language: str, word: str) -> list[str]:
    """The pages' blocks in a language that contain a word."""
    return [text for kind, text in BLOCKS if kind == language and word in text]


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """By README's ports, where its first command serves, and where its Triton answers."""
    (command,) = blocks("bash", "make serve\n")[:1]
    port = free_port()
    stack = PeServe(
        tmp_path_factory.mktemp("readme"), command=["bash", "-c", command], PORT=str(port), PE_TRITON_PORTS="0,0,0"
    )
    try:
        assert stack.wait_until_ready() == f"http://127.0.0.1:{port}"
        yield {"9001": port, "8001": int(stack.triton().rpartition(":")[2])}
        stack.stop()
        stack.wait_until_gone(15)
    finally:
        stack.kill()


def at(ports: dict[str, int], snippet: str) -> str:
    return re.sub("|".join(ports), lambda port: str(ports[port[0]]), snippet)


def test_the_first_screen_holds_the_command_the_curl_and_its_answer() -> None:
    screen = "\n".join(README.splitlines()[:20])
    for needed in ("make serve", "curl -s http://127.0.0.1:9001/perception_encoder/compare", '"similarity"'):
        assert needed in screen


def test_the_curl_gives_the_printed_answer(ports: dict[str, int]) -> None:
    (command,) = blocks("bash", "curl")
    run = subprocess.run(["bash", "-c", at(ports, command)], capture_output=True, text=True, check=True, timeout=60)
    answer = json.loads(run.stdout)
    (printed,) = (json.loads(text) for kind, text in BLOCKS if kind == "json")
    assert list(answer) == list(printed)
    assert answer["similarity"] == pytest.approx(printed["similarity"], abs=2e-4)
    assert answer["similarity"][0] == max(answer["similarity"])


def test_the_classification_gives_the_printed_answer(ports: dict[str, int]) -> None:
    command = at(ports, CLASSIFY["bash"])
    run = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    (answer,), (printed,) = (json.loads(text)["predictions"] for text in (run.stdout, CLASSIFY["json"]))
    assert [found["class"] for found in answer] == [found["class"] for found in printed] == ["circle", "square"]
    for found, shown in zip(answer, printed, strict=True):
        assert found["similarity"] == pytest.approx(shown["similarity"], abs=2e-4)
        assert found["probability"] == pytest.approx(shown["probability"], abs=1e-4)


@pytest.mark.parametrize("snippet", blocks("python", "import"), ids=lambda text: text.split()[1])
def test_the_snippets_run(ports: dict[str, int], snippet: str) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", at(ports, snippet)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert len(json.loads(run.stdout)) == 4
