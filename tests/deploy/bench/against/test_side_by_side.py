"""Two small servers measured in turn, and the table that comes of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.bench.against import agreement, comparison_table, side_by_side
from deploy.bench.against.interfaces import Interface
from deploy.bench.against.operations import PROMPTS, jpegs, operations
from deploy.bench.against.peer import Peer, PeerFailed, find
from deploy.bench.harness.worker import load_generator
from deploy.bench.speed import cli
from tests.deploy.bench.against.conftest import Routes, Served, embed, openai_route, serving, strings
from tests.running import PeServe, free_port

EFFORT = side_by_side.Effort(rounds=2, minutes=2, seconds=0.2, levels=(1, 2))


def peers(ours: Served, theirs: Served) -> dict[str, Peer]:
    served = Peer("our server", ours.url, Interface("roboflow", "ours"), {})
    return {"ours": served, "theirs": find("theirs", theirs.url, None, "PE", "PE", "secret")}


def agreed(ours: Served, theirs: Served) -> dict[str, dict[str, Any]]:
    servers = peers(ours, theirs)
    return agreement.compare(servers["ours"], servers["theirs"], jpegs()[0])


@pytest.fixture
def complete(roboflow: Routes) -> Routes:
    """Roboflow's interface with lists of texts."""

    def text(body: Any) -> tuple[int, Any]:
        texts = body["text"] if isinstance(body["text"], list) else [body["text"]]
        return 200, {"embeddings": [embed(one) for one in texts]}

    return {**roboflow, "/perception_encoder/embed_text": text}


@pytest.mark.slow
def test_both_servers_get_the_same_in_turn(roboflow: Routes, complete: Routes, tmp_path: Path) -> None:
    images, _ = jpegs()
    with serving(complete) as ours, serving(roboflow, key="secret") as theirs, load_generator() as load:
        servers = peers(ours, theirs)
        rows, refused = side_by_side.prepare(servers, operations(images), EFFORT.levels, tmp_path / "bodies")
        assert refused == {"list of 8 new texts": "500 Internal error."}
        *_, found = side_by_side.rounds(rows, load, EFFORT, lambda _: None)
    names = [
        "image, base64, 1 in flight", "image, base64, 2 in flight", "list of 8 images, 2 in flight",
        "new short text, 1 in flight", "new short text, 2 in flight", "new long text, 8 in flight",
        "repeated text, 8 in flight", "image compared with 3 texts, 8 in flight",
    ]  # fmt: skip
    assert list(found) == names
    for name, sides in found.items():
        for samples in sides.values():
            assert [sample["errors"] for sample in samples] == [{}, {}], name
            assert max(sample["items_per_s"] for sample in samples) > 0, name  # A busy machine may miss a round.
    sent = [[body for _, _, body in server.requests] for server in (ours, theirs)]
    assert all(headers["Authorization"] == "Bearer secret" for _, headers, _ in theirs.requests)
    for bodies in sent:
        texts = [body["text"] for body in bodies if isinstance(body.get("text"), str)]
        new = [text for text in texts if text not in PROMPTS]
        assert len(set(new)) == len(new) > 20
        assert not any("@" in text for text in texts)
    images_sent = [{json.dumps(body["image"]) for body in bodies if "image" in body} for bodies in sent]
    assert images_sent[0] == images_sent[1]


def test_what_ours_refuses_is_an_error(roboflow: Routes, complete: Routes, tmp_path: Path) -> None:
    with (
        serving(roboflow) as ours,
        serving(complete) as theirs,
        pytest.raises(PeerFailed, match="our server refused list of 8 new texts: 500 Internal error"),
    ):
        side_by_side.prepare(peers(ours, theirs), operations(jpegs()[0]), (1,), tmp_path / "bodies")


def test_too_few_embeddings_are_no_list(complete: Routes, tmp_path: Path) -> None:
    def first(body: Any) -> tuple[int, Any]:
        return 200, {"embeddings": complete["/perception_encoder/embed_image"](body)[1]["embeddings"][:1]}

    with serving(complete) as ours, serving({**complete, "/perception_encoder/embed_image": first}) as theirs:
        _, refused = side_by_side.prepare(peers(ours, theirs), operations(jpegs()[0]), (1,), tmp_path / "bodies")
    assert refused == {"list of 8 images": "1 embeddings for 8 items"}


def test_the_same_embeddings_agree(complete: Routes) -> None:
    with serving(complete) as ours, serving(complete) as theirs:
        found = agreed(ours, theirs)
    assert found["text"]["pairs"] == 16
    for part in found.values():
        assert part["dimensions"] == [4, 4]
        assert part["cosine"]["min"] == pytest.approx(1)
        assert part["length"][1] == pytest.approx([1, 1])
    assert agreement.warning(found, "theirs") == ""


@pytest.mark.parametrize(
    ("dimension", "warning"),
    [(4, "another model or other weights: a cosine of"), (3, "its text embeddings have 3 dimensions, ours 4")],
)
def test_other_embeddings_are_told(complete: Routes, dimension: int, warning: str) -> None:
    def other(body: Any) -> tuple[int, Any]:
        return 200, {"embeddings": [[2 * x for x in embed("other " + body["text"], dimension)]]}

    def refuse(_: Any) -> tuple[int, Any]:
        return 400, {"detail": "no images | here"}

    routes = {"/perception_encoder/embed_text": other, "/perception_encoder/embed_image": refuse}
    with serving(complete) as ours, serving(routes) as theirs:
        found = agreed(ours, theirs)
    assert found["image"] == {"not_offered": "400 no images | here"}
    assert found["text"]["length"][1] == pytest.approx([2, 2])
    assert (found["text"]["cosine"] is None) is (dimension == 3)
    assert warning in agreement.warning(found, "theirs")


def sample(rate: float, **errors: int) -> dict[str, Any]:
    late = "1.0 ms late" if rate > 50 else ""
    return {"items_per_s": rate, "ms": {"p50": 2.0, "p95": 4.0}, "errors": errors, "generator": {"bottleneck": late}}


def test_the_table() -> None:
    results = {
        "variant": "PE-Demo-T8-64", "name": "infinity", "date": "2026-11-29", "commit": "abc", "rounds": 2,
        "seconds": 1.0, "machine": {"cpu": "a CPU", "cores": 2, "load_before": 0.1}, "pictures": "photographs",
        "interface": {"kind": "openai", "path": "/embeddings", "model": "clip", "images": "modality"},
        "agreement": {
            "image": {"not_offered": "400 a|b"},
            "text": {"pairs": 16, "dimensions": [64, 512], "cosine": None, "length": [[1.0, 1.0], [0.5, 2.0]]},
        },
        "not_offered": {"list of 8 images": "400 a|b"},
        "rows": {"image, 8 in flight": {"ours": [sample(100.0), sample(40.0)],
                                        "theirs": [sample(25.0), sample(20.0, **{"500": 3})]}},
    }  # fmt: skip
    text = comparison_table.markdown(results)
    row = "| image, 8 in flight | 70.0 (40.0-100.0) | 22.5 (20.0-25.0) | 3.00 (2.00-4.00) | 2.0, 4.0 | 2.0, 4.0 |"
    assert f"{row} infinity: 3 of status 500 |" in text
    assert "| list of 8 images |  | not offered: 400 a/b |" in text
    assert "| text | 16 | 64, 512 | not comparable | 1.0000000 to 1.0000000 | 0.5000000 to 2.0000000 |" in text
    assert "**infinity has another model: its text embeddings have 512 dimensions, ours 64.**" in text
    assert "- image, 8 in flight, ours: 1 of 2 rounds (1.0 ms late)" in text
    assert "OpenAI's (/embeddings), images by the convention `modality`" in text


@pytest.mark.triton
def test_our_own_server_as_the_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PE_AGAINST_KEY", "secret")
    options = ["--rounds", "2", "--seconds", "0.2", "--quick", "--output", str(tmp_path)]
    theirs = PeServe(tmp_path, "--port", "0", PE_API_KEYS="secret")
    try:
        url = theirs.wait_until_ready()
        for kind in ("roboflow", "openai"):
            more = ["--against", url, "--against-interface", kind, "--name", kind]
            assert cli.main([*options, *more]) == 0
        assert cli.main([*options, "--url", url, "--against", f"http://127.0.0.1:{free_port()}"]) == 1
        assert "cannot be reached" in capsys.readouterr().err
    finally:
        theirs.kill()
    for kind in ("roboflow", "openai"):
        results = json.loads((tmp_path / f"{kind}.json").read_text())
        assert results["not_offered"].keys() == ({"image compared with 3 texts"} if kind == "openai" else set())
        assert len(results["rows"]) == (8 if kind == "openai" else 9)
        for found in results["agreement"].values():
            assert found["cosine"]["min"] > 0.99999
        assert "secret" not in json.dumps(results)
        assert "## The answers" in (tmp_path / f"{kind}.md").read_text()


def test_openai_has_no_comparison(complete: Routes, tmp_path: Path) -> None:
    with serving(openai_route(strings)) as ours, serving(openai_route(strings)) as theirs:
        interface = Interface("openai", "clip", images="string")
        servers = {"ours": Peer("our server", ours.url, interface, {}), "theirs": Peer("t", theirs.url, interface, {})}
        rows, refused = side_by_side.prepare(servers, operations(jpegs()[0]), (1,), tmp_path / "bodies")
    assert list(refused) == ["image compared with 3 texts"]
    assert len(rows) == 6
