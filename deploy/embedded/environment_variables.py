"""Read environment variables as the gateway's settings do: one that is empty is unset."""

import os


def variable(name: str) -> str:
    """Return the value of a variable without white space around it. It is empty if the variable is unset."""
    return os.environ.get(name, "").strip()
