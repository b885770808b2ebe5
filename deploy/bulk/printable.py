"""Ids and errors as a terminal can show them."""


def printable(text: str) -> str:
    """The text in one line, without characters that a terminal obeys."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
