"""Read single headers of an ASGI request."""

from typing import Final

from starlette.types import Scope

MULTIPART: Final = "multipart/form-data"
URLENCODED: Final = "application/x-www-form-urlencoded"


def header(scope: Scope, name: bytes) -> str:
    """Find the first header of a name.

    Starlette's `Headers` takes several times as long for one header.

    Args:
        name: in lower case, as ASGI has it.

    Returns:
        The value; "" if there is no such header.
    """
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")  # type: ignore[no-any-return]  # ASGI defines header values as bytes.
    return ""


def media_type(scope: Scope) -> str:
    """The Content-Type without its parameters, in lower case; "" if there is none."""
    return header(scope, b"content-type").partition(";")[0].strip().lower()


def is_json(scope: Scope) -> bool:
    """Whether the body is JSON by its Content-Type. Like the incumbent, read a body without Content-Type as JSON."""
    kind = media_type(scope)
    return kind in ("", "application/json") or (kind.startswith("application/") and kind.endswith("+json"))


def is_form(scope: Scope) -> bool:
    """Whether the body is a form by its Content-Type."""
    return media_type(scope) in (MULTIPART, URLENCODED)
