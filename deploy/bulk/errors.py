"""All errors of `pe-embed` and `pe-search`, as one tree. `str(error)` is written for the user.

BulkError
├── UsageError        an argument, a source or an output that cannot be used; nothing was done
├── OutputError       an output fails during a run; finished rows are kept
├── ServerError       the server cannot be used, or was gone for too long; finished rows are kept
│   └── SpaceChanged  the server's embeddings can no longer be compared with those of this run
└── ItemError         one picture, text or video has no embedding; the run goes on
"""


class BulkError(Exception):
    """Base of the tree."""


class UsageError(BulkError):
    """An argument, a source or an output that cannot be used."""


class OutputError(BulkError):
    """An output fails during a run: a database is gone, a disk is full, a value does not fit into its column."""


class ServerError(BulkError):
    """The server cannot be used, or was gone for too long."""


class SpaceChanged(ServerError):
    """The server changed its variant or weights during a run."""


class ItemError(BulkError):
    """One picture, text or video has no embedding. The message becomes the `error` of its row."""
