"""Finding out what another server is, against small servers that each know one thing."""

from typing import Any

import pytest

from deploy.bench.against.interfaces import Kind
from deploy.bench.against.peer import Peer, PeerFailed, find
from tests.deploy.bench.against.conftest import Routes, as_text, openai_route, serving, strings
from tests.running import free_port

VARIANT = "PE-Core-B16-224"


def found(url: str, kind: Kind | None = None, model: str | None = None, key: str | None = None) -> Peer:
    return find("theirs", url, kind, model, VARIANT, key)


def objects(body: Any) -> list[str]:
    values = body["input"] if isinstance(body["input"], list) else [body["input"]]
    return [value["image"] if isinstance(value, dict) else value for value in values]


def by_modality(body: Any) -> list[str]:
    values = strings(body)
    return values if body.get("modality") == "image" else [f"text: {value}" for value in values]


def chat(body: Any) -> list[str]:
    if "messages" in body:
        return [body["messages"][0]["content"][0]["image_url"]["url"]]
    return [f"text: {value}" for value in strings(body)]


def test_roboflows_interface_comes_first(roboflow: Routes) -> None:
    with serving({**roboflow, **openai_route(strings)}) as server:
        peer = found(server.url)
        assert (peer.interface.kind, peer.interface.model) == ("roboflow", VARIANT)
        assert found(server.url, "openai").interface.kind == "openai"
        assert found(server.url, model="PE-Core-L14-336").interface.model == "PE-Core-L14-336"
    assert server.requests[0][2]["perception_encoder_version_id"] == VARIANT


@pytest.mark.parametrize(
    ("items", "convention"), [(strings, "string"), (objects, "object"), (by_modality, "modality"), (chat, "messages")]
)
def test_each_convention_for_images(items: Any, convention: str) -> None:
    with serving(openai_route(items)) as server:
        assert found(server.url).interface.images == convention


@pytest.mark.parametrize("embed", [as_text, lambda value: as_text(value[:20])])
def test_a_server_of_texts_has_no_images(embed: Any) -> None:
    """The first embeds all of the URI as a text, the second cuts long texts off."""
    with serving(openai_route(strings, embed)) as server:
        assert found(server.url).interface.images is None


def test_a_route_without_prefix_and_a_prefix_of_the_url() -> None:
    route = openai_route(strings)["/v1/embeddings"]
    with serving({"/embeddings": route, "/models": lambda _: (200, {"data": [{"id": "clip"}]})}) as server:
        peer = found(server.url)
        assert (peer.interface.path, peer.interface.model) == ("/embeddings", "clip")
    with serving({"/below/v1/embeddings": route}) as server:
        assert found(server.url + "/below/").interface.path == "/v1/embeddings"


def test_a_key(roboflow: Routes) -> None:
    with serving(roboflow, key="secret") as server:
        with pytest.raises(PeerFailed, match=r"theirs wants an API key \(401 who are you\?\): set PE_AGAINST_KEY"):
            found(server.url)
        assert found(server.url, key="secret").headers == {"Authorization": "Bearer secret"}


def test_no_server() -> None:
    with pytest.raises(PeerFailed, match=r"theirs cannot be reached at http://127\.0\.0\.1:\d+: ConnectionRefused"):
        found(f"http://127.0.0.1:{free_port()}")


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "127.0.0.1:9001", "http://", "ftp://a"])
def test_no_url(url: str) -> None:
    with pytest.raises(PeerFailed, match="is not a URL of the form http://host:port"):
        found(url)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"embeddings": [[1.0, None]]}, "no rows of finite numbers"),
        ({"embeddings": []}, "no rows of finite numbers"),
        ({"result": 1}, "no embeddings in the form of this interface"),
        ([1], "no embeddings in the form of this interface"),
    ],
)
def test_another_form(body: Any, reason: str) -> None:
    with (
        serving({"/perception_encoder/embed_text": lambda _: (200, body)}) as server,
        pytest.raises(PeerFailed, match=rf"no.* known interface\. roboflow: .*({reason}); openai: /v1/embeddings: 404"),
    ):
        found(server.url)


def test_errors_are_told() -> None:
    broken = {"/v1/embeddings": lambda _: (503, {"error": {"message": "no model is loaded"}})}
    with serving(broken) as server, pytest.raises(PeerFailed, match="/v1/embeddings: 503 no model is loaded"):
        found(server.url)


def test_a_response_without_length(roboflow: Routes) -> None:
    with serving(roboflow, length=False) as server, pytest.raises(PeerFailed, match="without Content-Length"):
        found(server.url)
