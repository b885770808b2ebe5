"""The two interfaces of embedding servers: Roboflow's, and OpenAI's with the ways in which servers take images.

OpenAI's own interface has no images. Servers differ in how they take an image as a `data:` URI, and some take a URI for
a text. The known conventions:

    string    a URI in place of a text (NVIDIA NIM NV-CLIP; this project)
    object    {"image": URI} in place of a text (SGLang, Jina; this project)
    modality  a URI in place of a text, and "modality": "image" beside it (infinity)
    messages  a chat message that holds an image_url, one image in a request (vLLM)
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from deploy.bench.harness import client

Kind = Literal["roboflow", "openai"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
Convention = Literal["string", "object", "modality", "messages"]
CONVENTIONS: Final[tuple[Convention, ...]] = ("object", "string", "modality", "messages")
"""In the order of probing. Many servers ignore `modality`, so `string` comes before it."""
OPENAI_PATHS: Final = ("/v1/embeddings", "/embeddings")
"""infinity has no prefix unless it is told."""

Embeddings = NDArray[np.float64]


class NotOffered(Exception):
    """The interface has no such operation."""


@dataclass(frozen=True)
class Interface:
    """How one server is asked for embeddings."""

    kind: Kind
    model: str | None = None
    """The name of the model in a request; None lets the server choose."""
    path: str = OPENAI_PATHS[0]
    """OpenAI's route."""
    images: Convention | None = None
    """How OpenAI's route takes images; None if it takes none."""

    def images_body(self, files: Sequence[bytes]) -> tuple[str, dict[str, Any]]:
        """Return path and body of a request for the embeddings of JPEG or PNG files. One file is sent without a list.

        Raises:
            NotOffered: the interface takes no images, or no lists of images.
        """
        if self.kind == "roboflow":
            encoded = [client.image_json(file) for file in files]
            return client.IMAGE, self._roboflow(image=encoded if len(files) > 1 else encoded[0])
        uris = [data_uri(file) for file in files]
        if self.images is None:
            raise NotOffered("it takes no images")
        if self.images == "messages":
            if len(uris) > 1:
                raise NotOffered("a chat message is one embedding")
            content = [{"type": "image_url", "image_url": {"url": uris[0]}}]
            return self.path, self._openai(messages=[{"role": "user", "content": content}])
        items: list[Any] = [{"image": uri} for uri in uris] if self.images == "object" else list(uris)
        more = {"modality": "image"} if self.images == "modality" else {}
        return self.path, self._openai(input=items if len(items) > 1 else items[0], **more)

    def texts_body(self, texts: Sequence[str]) -> tuple[str, dict[str, Any]]:
        """Return path and body of a request for the embeddings of texts. One text is sent without a list."""
        value = list(texts) if len(texts) > 1 else texts[0]
        if self.kind == "roboflow":
            return client.TEXT, self._roboflow(text=value)
        return self.path, self._openai(input=value)

    def compare_body(self, file: bytes, prompts: Sequence[str]) -> tuple[str, dict[str, Any]]:
        """Return path and body of a comparison of an image with texts.

        Raises:
            NotOffered: OpenAI's interface has none.
        """
        if self.kind != "roboflow":
            raise NotOffered("OpenAI's interface has no such request")
        return client.COMPARE, self._roboflow(subject=client.image_json(file), prompt=list(prompts))

    def embeddings(self, body: Any) -> Embeddings:
        """Read the embeddings [N, D] of a response.

        Raises:
            ValueError: the response holds none.
        """
        try:
            if self.kind == "roboflow":
                rows = body["embeddings"]
            else:
                rows = [item["embedding"] for item in sorted(body["data"], key=lambda item: item.get("index", 0))]
            found = np.array(rows, np.float64)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError("the response holds no embeddings in the form of this interface") from error
        if found.ndim != 2 or not found.size or not np.isfinite(found).all():
            raise ValueError("the response holds no rows of finite numbers")
        return found

    def _roboflow(self, **fields: Any) -> dict[str, Any]:
        version = {"perception_encoder_version_id": self.model} if self.model else {}
        return {**version, **fields}

    def _openai(self, **fields: Any) -> dict[str, Any]:
        return {"model": self.model or "", **fields, "encoding_format": "float"}


def data_uri(file: bytes) -> str:
    """Write a JPEG or PNG file as a `data:` URI."""
    kind = "png" if file.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"
