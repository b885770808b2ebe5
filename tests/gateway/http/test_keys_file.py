"""The file of API keys: what it may hold, and what a change of it does."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.http.keys_file import KeysFile, digest
from gateway.settings import Settings
from tests.gateway.http.conftest import MakeClient

TEXT = "/perception_encoder/embed_text"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def pass_a_second(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A clock that stands still until it is told to go on."""
    now = [100.0]
    monkeypatch.setattr("gateway.http.keys_file.time.monotonic", lambda: now[0])

    def go_on() -> None:
        now[0] += 1

    return go_on


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        (b"one", ["one"]),
        (b"one\ntwo\n", ["one", "two"]),
        (b"# team A\r\n  one \r\n\r\n#two\r\nthree\r\none", ["one", "three"]),
        (b"\xef\xbb\xbfone\n", ["one"]),
        ("\N{GREEK SMALL LETTER ALPHA},b".encode(), ["\N{GREEK SMALL LETTER ALPHA},b"]),
    ],
)
def test_one_key_a_line(path: Path, content: bytes, keys: list[str]) -> None:
    path.write_bytes(content)
    assert KeysFile(path).digests == [digest(key) for key in keys]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "has no key"),
        (b"\n# one\n \n", "has no key"),
        (b"\xff\xfe", "it is not UTF-8"),
        (b"k" * (2**20 + 1), "has more than 1048576 bytes"),
    ],
)
def test_what_is_no_file_of_keys(path: Path, content: bytes, problem: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"PE_API_KEYS_FILE: {path}.* {problem}"):
        KeysFile(path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file or directory"):
        KeysFile(tmp_path / "none")
    with pytest.raises(ValueError, match="Is a directory"):
        KeysFile(tmp_path)
    with pytest.raises(ValueError, match="null"):
        KeysFile(Path("a\0b"))


def test_a_change_is_seen_after_a_second(path: Path, pass_a_second: Callable[[], None]) -> None:
    path.write_text("one")
    keys = KeysFile(path)
    path.write_text("three")
    assert keys.digests == [digest("one")]
    pass_a_second()
    assert keys.digests == [digest("three")]


def test_a_link_to_another_file_is_a_change(tmp_path: Path, path: Path, pass_a_second: Callable[[], None]) -> None:
    """Kubernetes changes a volume's files so."""
    for name in ("old", "new"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (0, 0))
    path.symlink_to("old")
    keys = KeysFile(path)
    (tmp_path / "link").symlink_to("new")
    (tmp_path / "link").rename(path)
    pass_a_second()
    assert keys.digests == [digest("new")]


def test_a_bad_change_leaves_the_keys(
    path: Path, pass_a_second: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path.write_text("one")
    keys = KeysFile(path)
    for spoil in (path.unlink, lambda: path.write_text("# one"), lambda: path.write_bytes(b"\xff")):
        caplog.clear()
        spoil()
        for _ in range(3):
            pass_a_second()
            assert keys.digests == [digest("one")]
        assert len(caplog.records) == 1
        assert caplog.records[0].message.endswith("The keys from before stay")
    path.write_text("one\ntwo")
    pass_a_second()
    assert keys.digests == [digest("one"), digest("two")]
    assert caplog.records[-1].message == "PE_API_KEYS_FILE was read again: keys=2"


def test_a_server_takes_and_drops_keys(make_client: MakeClient, path: Path, pass_a_second: Callable[[], None]) -> None:
    path.write_text("from-the-file\n")
    client = make_client(api_keys="from-the-variable", api_keys_file=path)

    def status(key: str) -> int:
        return client.post(TEXT, json={"text": "x", "api_key": key}).status_code

    assert [status(key) for key in ("from-the-file", "from-the-variable", "later", "")] == [200, 200, 401, 401]
    path.write_text("later\n")
    pass_a_second()
    assert [status(key) for key in ("from-the-file", "from-the-variable", "later", "")] == [401, 200, 200, 401]


def test_an_empty_setting_is_unset() -> None:
    assert Settings.model_validate({"PE_API_KEYS_FILE": ""}).api_keys_file is None
