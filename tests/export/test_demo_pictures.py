"""Check the demo variant's pictures, captions and evaluation, without torch."""

import base64
import io
import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from export.demo import captions as said
from export.demo import evaluate
from export.demo.pictures import (
    BACKGROUNDS,
    COLOURS,
    COLUMNS,
    COMBINATIONS,
    HELD_OUT,
    MAX_ASPECT,
    ROWS,
    SEEN,
    SHAPES,
    Group,
    Scene,
    draw,
    draw_with_covers,
    outline,
    random_scene,
    single_scene,
)
from export.demo.questions import questions

pytestmark = pytest.mark.slow


def scenes(number: int) -> Iterator[tuple[np.random.Generator, Scene]]:
    for seed in range(number):
        rng = np.random.default_rng([7, seed])
        yield rng, random_scene(rng, SEEN)


def truth(scene: Scene, caption: said.Caption) -> int:
    return int(said.truth(said.encode_scene(scene)[None], said.encode_caption(caption)[None])[0, 0])


def test_each_colour_and_shape_misses_exactly_one_combination() -> None:
    assert len(HELD_OUT) >= 8
    assert Counter(colour for colour, _ in HELD_OUT) == dict.fromkeys(COLOURS, 1)
    assert Counter(shape for _, shape in HELD_OUT) == dict.fromkeys(SHAPES, 1)
    assert set(SEEN) | HELD_OUT == set(COMBINATIONS)


def test_training_never_shows_or_names_a_held_out_combination() -> None:
    names = {f"{colour} {noun}" for colour, shape in HELD_OUT for noun in (shape, said.PLURALS[shape])}
    for rng, scene in scenes(1500):
        assert HELD_OUT.isdisjoint((group.colour, group.shape) for group in scene.groups)
        false = said.swapped(rng, scene)
        for caption in [*said.captions(rng, scene, 5), *([false] if false else [])]:
            assert not any(name in caption.text.lower() for name in names), caption
            assert HELD_OUT.isdisjoint((claim.colour or "", claim.shape or "") for claim in caption.claims)


def test_captions_are_true_and_an_exchange_of_both_colours_is_false() -> None:
    exchanged = 0
    for rng, scene in scenes(500):
        assert [truth(scene, caption) for caption in said.captions(rng, scene, 5)] == [said.TRUE] * 5
        false = said.swapped(rng, scene)
        if false and all(claim.colour and claim.shape for claim in false.claims):
            exchanged += 1
            assert truth(scene, false) == said.FALSE, (scene, false)
    assert exchanged > 50


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        (said.Claim("red", "circle", "singular"), said.TRUE),
        (said.Claim("red"), said.TRUE),
        (said.Claim("red", "star"), said.FALSE),
        (said.Claim("blue", "star", "three"), said.TRUE),
        (said.Claim("blue", "star", "plural"), said.TRUE),
        (said.Claim("blue", "star", "two"), said.FALSE),
        (said.Claim("blue", "star", "singular"), said.UNSURE),
        (said.Claim("red", "circle", size="small"), said.UNSURE),
        (said.Claim("red", "circle", column="left"), said.TRUE),
        (said.Claim("red", "circle", column="right"), said.FALSE),
        (said.Claim("blue", "star", column="left"), said.UNSURE),
    ],
)
def test_truth_of_a_claim(claim: said.Claim, expected: int) -> None:
    scene = Scene((Group("red", "circle", 1, "medium", "left", "top"), Group("blue", "star", 3, "small")), "white")
    assert truth(scene, said.Caption("", (claim,))) == expected
    assert truth(scene, said.Caption("", (claim,), "white")) == expected
    assert truth(scene, said.Caption("", (claim,), "black")) == said.FALSE


def test_a_generator_state_gives_one_picture() -> None:
    def picture(seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        return draw(rng, random_scene(rng, SEEN)).tobytes()

    assert picture(3) == picture(3) != picture(4)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_fills_its_box_and_no_more(shape: str) -> None:
    points = outline(shape)
    assert np.abs(points).max() <= 0.56
    assert np.ptp(points, axis=0).min() >= 0.75


@pytest.mark.parametrize("colour", COLOURS)
def test_a_picture_shows_the_colour_where_the_scene_has_the_shape(colour: str) -> None:
    for column in COLUMNS:
        for row in ROWS:
            rng = np.random.default_rng([COLUMNS.index(column), ROWS.index(row)])
            group = Group(colour, "square", 1, "small", column, row)
            background = next(name for name in BACKGROUNDS if name not in ("black", colour))
            picture, (cover,) = draw_with_covers(rng, Scene((group,), background))
            inside = np.asarray(cover) == 255
            shown = np.asarray(picture)[inside].mean(axis=0)
            assert min(COLOURS, key=lambda name: np.linalg.norm(shown - COLOURS[name])) == colour
            y, x = np.nonzero(inside)
            assert COLUMNS[int(3 * x.mean() / picture.width)] == column
            assert ROWS[int(3 * y.mean() / picture.height)] == row


def test_canvases_vary_in_size_and_aspect() -> None:
    sizes = [draw(rng, scene).size for rng, scene in scenes(60)]
    aspects = [width / height for width, height in sizes]
    assert min(aspects) < 0.75
    assert max(aspects) > 1.33
    assert max(*aspects, *(1 / aspect for aspect in aspects)) < MAX_ASPECT * 1.03
    assert len(set(sizes)) > 50


def test_no_shape_has_its_backgrounds_colour() -> None:
    for combination in COMBINATIONS:
        rng = np.random.default_rng(1)
        assert all(single_scene(rng, combination).background != combination[0] for _ in range(20))


def test_classify_ignores_length() -> None:
    texts = np.array([[1.0, 0.0], [0.0, 1.0]])
    images = np.array([[0.1, 5.0], [2.0, 1.9]])
    assert evaluate.classify(images, texts * [[100.0], [0.01]]).tolist() == [1, 0]


def test_prompts_cover_every_combination() -> None:
    assert len(set(evaluate.prompts())) == len(COMBINATIONS) >= 24
    assert "a red star" in evaluate.prompts()


class Oracle:
    """A model that knows colours but no shapes. It embeds every picture as a square."""

    def embed_images(self, pictures: Sequence[Image.Image]) -> NDArray[np.float64]:
        return np.eye(len(COMBINATIONS))[[9 * (i % 81 // 9) + SHAPES.index("square") for i in range(len(pictures))]]

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        return np.eye(len(COMBINATIONS))[: len(texts)]


def test_measure_counts_seen_and_held_out_apart() -> None:
    seen, held_out = evaluate.measure(Oracle(), 162, seed=5)
    assert (seen.pictures, held_out.pictures) == (2 * len(SEEN), 2 * len(HELD_OUT))
    assert seen.accuracy == pytest.approx(8 / len(SEEN))
    assert held_out.accuracy == pytest.approx(1 / len(HELD_OUT))
    assert "| seen combinations | 144 | 81 | 11.1% |" in evaluate.table([seen, held_out])


def test_questions_have_their_right_answer_once_and_first() -> None:
    made = questions(1)
    assert len({question.name for question in made}) == len(made)
    for question in made:
        assert len(question.scenes) == len(question.answers) > 0
        for choice in question.answers:
            assert len(set(choice)) == len(choice) > 1
        assert len({len(choice) for choice in question.answers}) == 1


class Recorder(BaseHTTPRequestHandler):
    """A server that returns the same embedding for every input, and records the requests."""

    asked: list[tuple[str, dict[str, object]]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, body))
        number = len(body.get("image") or body["text"])
        answer = json.dumps({"embeddings": [[1.0, 0.0]] * number}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Write nothing to stderr."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    Recorder.asked = []
    with HTTPServer(("127.0.0.1", 0), Recorder) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield httpd
        httpd.shutdown()
        thread.join()


def test_main_asks_in_small_requests_and_fails_below_its_floor(
    server: HTTPServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("sys.argv", ["evaluate", "--url", url, "--pictures", "81"])
    with pytest.raises(SystemExit) as exit_info:
        evaluate.main()
    assert "below the floor" in str(exit_info.value.code)
    assert "held-out combinations | 9 | 81 |" in capsys.readouterr().out
    images = [body["image"] for path, body in Recorder.asked if path == "/perception_encoder/embed_image"]
    texts = [body["text"] for path, body in Recorder.asked if path == "/perception_encoder/embed_text"]
    assert all(isinstance(part, list) and len(part) <= 8 for part in images + texts)
    assert [text for part in texts if isinstance(part, list) for text in part] == evaluate.prompts()
    assert {body["perception_encoder_version_id"] for _, body in Recorder.asked} == {"PE-Demo-T8-64"}
    first = images[0]
    assert isinstance(first, list)
    picture = Image.open(io.BytesIO(base64.b64decode(first[0]["value"])))
    assert picture.format == "PNG"
    assert picture.tobytes() == evaluate.new_picture(1, 0).tobytes()
