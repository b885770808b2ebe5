"""All errors of `pe-embed` and `pe-search`, as one tree. `str(error)` is written for the user.

BulkError
├── UsageError        an argument, a source or an output that cannot be used; nothing was done
├── OutputError       rows could not be written; those written before are kept
├── ServerError       the server cannot be used, or was gone for too long; finished rows are kept
│   └── SpaceChanged  the server's embeddings can no longer be compared with those of this run
└── ItemError         one picture, text or video has no embedding; the run goes on
"""


class BulkError(Exception):
    """Base of the tree."""


class UsageError(BulkError):
    """An argument, a source or an output that cannot be used."""


class OutputError(BulkError):
    """Rows could not be written, such as on a full disk."""


class ServerError(BulkError):
    """The server cannot be used, or was gone for too long."""


class SpaceChanged(ServerError):
    """The server changed its variant or weights during a run."""


class ItemError(BulkError):
    """One picture, text or video has no embedding. The message becomes the `error` of its row."""


def too_long(size: int, most: int) -> ItemError:
    """The error of a file with more bytes than the server reads."""
    return ItemError(f"The file has {size} bytes. The server reads at most {most}.")
