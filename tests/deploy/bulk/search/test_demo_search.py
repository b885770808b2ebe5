"""From 2,000 drawn pictures to a search, by the real server: `pe-embed`, then `pe-search`, in every kind of place.

The pictures come from the demo's generator, which knows which captions are true of them.
"""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deploy.bulk.client import Embedder
from deploy.bulk.errors import UsageError
from deploy.bulk.outputs.lance_table import LanceTable
from deploy.bulk.rows import EmbeddingSpace, Row, Run
from deploy.bulk.search.place import Place, open_place
from export.demo.pictures import COMBINATIONS, Scene, draw, random_scene
from tests.deploy.bulk.conftest import pe_embed
from tests.deploy.bulk.postgres_server import PASSWORD, PostgresServer
from tests.deploy.bulk.videos import encode

pytestmark = pytest.mark.bulk

PE_SEARCH: Final = (sys.executable, "-m", "deploy.bulk.search.cli")
PICTURES: Final = 2000
COLUMNS: Final = ("color", "shape", "count", "background")
TOP: Final = 10
Places = dict[str, str]


def pe_search(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PE_SEARCH, *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Scene]]:
    """A folder with 2,000 pictures and a table of them, `pictures.csv`, and the scene of each picture."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "pictures").mkdir()
    rng = np.random.default_rng(22)
    drawn = {}
    with (folder / "pictures.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *COLUMNS])
        for number in range(PICTURES):
            scene, name = random_scene(rng, COMBINATIONS), f"pictures/{number:04}.png"
            draw(rng, scene).save(folder / name, compress_level=1)
            group = scene.groups[0]
            writer.writerow([name, group.colour, group.shape, sum(g.count for g in scene.groups), scene.background])
            drawn[name] = scene
    return folder, drawn


@pytest.fixture(scope="module")
def places(
    scenes: tuple[Path, dict[str, Scene]],
    server: str,
    postgres: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Places:
    """The same embeddings in every kind of place, by `pe-embed`."""
    folder, _ = scenes
    output = tmp_path_factory.mktemp("places")
    found = {
        "lancedb": f"lancedb:{output / 'db'}",
        "postgresql": f"{postgres.new_database()}?table=pictures",
        "parquet": str(output / "pictures.parquet"),
        "npy": str(output / "pictures.npy"),
    }
    source = (folder / "pictures.csv", "--column", "file", "--columns", ",".join(COLUMNS), "--root", folder)
    for kind, place in found.items():
        flag = "--into" if kind in ("lancedb", "postgresql") else "--out"
        run = pe_embed(*source, flag, place, "--url", server, timeout=300)
        assert run.returncode == 0, run.stderr
        assert "2000 embeddings" in run.stderr
        assert PASSWORD not in run.stderr
        assert "se%2Fcret" not in run.stderr
    return found


@pytest.fixture(scope="module")
def exact(places: Places) -> tuple[list[str], NDArray[np.float32]]:
    """The ids, and the embeddings, float32 [2000, D]."""
    table = open_place(places["parquet"])
    ids = [match.id for match in sorted(table.search(np.zeros(64, np.float32), PICTURES, None), key=lambda m: m.id)]
    table.close()
    # `pe-embed` keeps the order of its source, which is that of the ids.
    return ids, np.load(places["npy"])


async def captions(url: str) -> dict[tuple[str, str], NDArray[np.float32]]:
    """The embedding of each caption "a green heart"."""
    async with Embedder(url) as embedder:
        found = await embedder.embed([f"a {colour} {shape}" for colour, shape in COMBINATIONS])
    return {pair: np.asarray(embedding) for pair, embedding in zip(COMBINATIONS, found, strict=True)}


def precision(place: Place, queries: dict[tuple[str, str], NDArray[np.float32]], drawn: dict[str, Scene]) -> float:
    """The part of the first ten matches that have what the caption says, over all captions."""
    right = 0
    for pair, query in queries.items():
        for match in place.search(query, TOP, None):
            right += pair in {(group.colour, group.shape) for group in drawn[match.id].groups}
    return right / (TOP * len(queries))


def recall(place: Place, queries: Sequence[NDArray[np.float32]], exact: tuple[list[str], NDArray[np.float32]]) -> float:
    """The part of the ten most similar pictures that are among the first ten matches."""
    ids, embeddings = exact
    hits = 0
    for query in queries:
        best = {ids[number] for number in np.argsort(-(embeddings @ query))[:TOP]}
        hits += len(best & {match.id for match in place.search(query, TOP, None)})
    return hits / (TOP * len(queries))


@pytest.mark.parametrize("kind", ["lancedb", "postgresql", "parquet", "npy"])
async def test_the_first_ten_have_what_the_caption_says(
    kind: str, places: Places, scenes: tuple[Path, dict[str, Scene]], server: str
) -> None:
    place = open_place(places[kind])
    found = precision(place, await captions(server), scenes[1])
    place.close()
    # 2,000 pictures have about 30 of each combination. A random order would have 0.02.
    assert found > 0.9


@pytest.mark.parametrize("kind", ["lancedb", "postgresql"])
async def test_an_approximate_search_finds_what_an_exact_one_finds(
    kind: str, places: Places, exact: tuple[list[str], NDArray[np.float32]], server: str
) -> None:
    if kind == "lancedb":  # it makes an index of more rows only
        async with Embedder(server) as embedder:
            space = embedder.space
        LanceTable(places[kind], Run(space, "float32", "", "1/1"), rows_for_index=1000).close()
    queries = [*(await captions(server)).values(), *exact[1][::50]]
    place = open_place(places[kind])
    found = recall(place, queries, exact)
    place.close()
    assert found > 0.99


@pytest.mark.parametrize("kind", ["lancedb", "postgresql", "parquet", "npy"])
async def test_a_filter_and_an_exact_search_agree(
    kind: str, places: Places, exact: tuple[list[str], NDArray[np.float32]], scenes: tuple[Path, dict[str, Scene]]
) -> None:
    ids, embeddings = exact
    wanted = [
        number
        for number, name in enumerate(ids)
        if scenes[1][name].background == "pink" and sum(group.count for group in scenes[1][name].groups) > 2
    ]
    assert 5 < len(wanted) < 100
    expected = [ids[wanted[at]] for at in np.argsort(-(embeddings[wanted] @ embeddings[0]), kind="stable")[:20]]
    place = open_place(places[kind])
    found = place.search(embeddings[0], 20, "background LIKE '%pin%' AND count > 2 -- few")
    place.close()
    assert [match.id for match in found] == expected
    assert all(match.columns["background"] == "pink" for match in found)


@pytest.mark.parametrize("kind", ["lancedb", "postgresql", "parquet", "npy"])
def test_wrong_filters(kind: str, places: Places) -> None:
    place = open_place(places[kind])
    query = np.eye(64, dtype=np.float32)[0]
    for wrong in (
        "colour = 'red'",
        "count >",
        "1=1) OR (1=1",
        "background = 3",
        "1=1; DROP TABLE pictures",
        "count",
        "x'",
    ):
        with pytest.raises(UsageError, match=r"^--where "):
            place.search(query, 3, wrong)
    assert len(place.search(query, 3, None)) == 3
    place.close()


def test_the_command_with_words_and_with_a_picture(
    places: Places, scenes: tuple[Path, dict[str, Scene]], server: str
) -> None:
    answers: list[Any] = []
    for place in places.values():
        run = pe_search("a green heart", "--in", place, "--url", server, "--format", "json", "--top", "5")
        assert run.returncode == 0, run.stderr
        answers.append(json.loads(run.stdout))
    assert all([m["id"] for m in answer["matches"]] == [m["id"] for m in answers[0]["matches"]] for answer in answers)
    assert answers[0]["query"] == {"text": "a green heart"}
    assert answers[0]["embedding_space"].startswith("PE-Demo-T8-64@")
    file = scenes[0] / "pictures/0007.png"
    run = pe_search("--image", file, "--in", places["lancedb"], "--url", server, "--min-similarity", "0.999")
    assert run.returncode == 0, run.stderr
    head, only = run.stdout.splitlines()
    assert head.split() == ["rank", "similarity", "id", *COLUMNS]
    assert only.split()[:3] == ["1", "1.0000", "pictures/0007.png"]


def test_a_video_is_searched_by_the_mean_of_its_frames(
    places: Places, scenes: tuple[Path, dict[str, Scene]], server: str, tmp_path: Path
) -> None:
    """Every frame of this one is the same picture."""
    with Image.open(scenes[0] / "pictures/0007.png") as picture:
        frame = np.asarray(picture.convert("RGB").resize((128, 128)))
    (tmp_path / "video.mp4").write_bytes(encode([frame] * 16))
    run = pe_search("--image", tmp_path / "video.mp4", "--in", places["lancedb"], "--url", server, "--top", "1")
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[1].split()[2] == "pictures/0007.png"
    (tmp_path / "broken.mp4").write_bytes(encode([frame])[:200])
    run = pe_search("--image", tmp_path / "broken.mp4", "--in", places["lancedb"], "--url", server)
    assert run.returncode == 2
    assert "broken.mp4: " in run.stderr


def test_mistakes_have_messages_and_statuses(places: Places, server: str, tmp_path: Path) -> None:
    (tmp_path / "no.png").write_text("no picture")
    (tmp_path / "other.parquet").write_text("no parquet")
    lance, postgres = places["lancedb"], places["postgresql"]
    for arguments, status, message in (
        (("--in", lance), 2, "Search for either a TEXT or an --image FILE."),
        (("x", "--image", "y.png", "--in", lance), 2, "Search for either a TEXT or an --image FILE."),
        ((" ", "--in", lance), 2, "The query is empty."),
        (("x", "--in", lance, "--where", " "), 2, "--where is empty"),
        (("x", "--in", lance, "--top", "0"), 2, "0 is not a whole number from 1 to 10000"),
        (("x", "--in", lance, "--top", "many"), 2, "many is not a whole number from 1 to 10000"),
        (("x", "--in", lance, "--min-similarity", "nan"), 2, "nan is not a number from -1 to 1"),
        (("x", "--in", "mysql://u:S3CRET@h/d"), 2, "--in: expected lancedb:PATH"),
        (("x", "--in", f"lancedb:{tmp_path}/none"), 2, "there is no such directory"),
        (("x", "--in", f"{lance}#none"), 2, "has no table none. Name one as lancedb:PATH#TABLE. Tables: embeddings."),
        (("x", "--in", postgres.replace("pictures", "none")), 2, "does not exist. Fill it with pe-embed"),
        (("x", "--in", f"{tmp_path}/none.npy"), 2, "There is no such file."),
        (("x", "--in", f"{tmp_path}/other.parquet"), 2, "cannot be read"),
        (("--image", f"{tmp_path}/no.png", "--in", lance), 2, "The query has no embedding: Could not load input image"),
        (("--image", f"{tmp_path}/none.png", "--in", lance), 2, "No such file"),
        (("x", "--in", lance, "--url", "http://127.0.0.1:1"), 1, "No server answers at http://127.0.0.1:1"),
    ):
        run = pe_search(*(("--url", server) if "--url" not in arguments else ()), *arguments)
        assert (run.returncode, run.stdout) == (status, ""), run.stderr
        assert message in run.stderr
        assert "Traceback" not in run.stderr
        assert "S3CRET" not in run.stderr
        assert "se%2Fcret" not in run.stderr


def test_embeddings_of_other_weights_are_refused(server: str, tmp_path: Path) -> None:
    for number, (name, message) in enumerate(
        (
            ("PE-Demo-T8-64@000000000000", "The two cannot be compared"),
            ("PE-Core-L14-336@1", "does not serve PE-Core-L14-336"),
        )
    ):
        destination = f"lancedb:{tmp_path}/{number}"
        table = LanceTable(destination, Run(EmbeddingSpace(name, 64), "float32", "", "1/1"))
        table.write([Row("a", np.asarray(np.eye(64)[0], np.float32))])
        run = pe_search("x", "--in", destination, "--url", server)
        assert (run.returncode, run.stdout) == (1, "")
        assert message in run.stderr


def test_what_is_gone_from_the_folder_is_removed_if_asked_to(destination: str, pictures: Path, server: str) -> None:
    command = (pictures, "--into", destination, "--url", server)
    assert pe_embed(*command).returncode == 0
    for path in sorted(pictures.glob("a/*"))[:3]:
        path.unlink()
    run = pe_embed(*command, "--remove-gone")
    assert run.returncode == 0, run.stderr
    assert "37 done before, 3 removed" in run.stderr
    place = open_place(destination)
    assert len(place.search(np.asarray(np.eye(64)[0], np.float32), 100, None)) == 37
    place.close()
