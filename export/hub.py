"""Published weights by name: one file from a model hub that speaks Hugging Face's protocol, kept in its usual cache.

Downloads resume, progress is shown, `HF_ENDPOINT`, `HF_HOME` and `HF_HUB_OFFLINE` mean what they always do, and a file
that is in the cache needs no network. A branch is resolved to its commit, which is recorded, so that the same export
can be asked for again with `--revision COMMIT`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from export.errors import CheckpointError

# What open_clip calls its weights in every repository of its own.
WEIGHTS = "open_clip_model.safetensors"

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HubFile:
    """A file in a hub's repository."""

    repository: str
    name: str


@dataclass(frozen=True)
class Download:
    """A file in the local cache, and where it is from."""

    path: Path
    source: str
    """Repository, commit and file: what can be asked for again."""
    sha256: str
    """What the hub says the file's digest is; empty if it says nothing."""


def fetch(file: HubFile, revision: str = "main") -> Download:
    """The file, downloaded unless the cache has it; CheckpointError that says what is in the way."""
    from huggingface_hub import errors, hf_hub_download

    where = f"{file.repository}/{file.name} at {revision}"
    try:
        path = Path(hf_hub_download(file.repository, file.name, revision=revision))
    except errors.GatedRepoError as error:
        raise CheckpointError(f"{where} is gated: accept its terms on the hub, then `hf auth login`") from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(f"the hub has no repository {file.repository}, or not for this account") from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"the hub has no revision {revision} of {file.repository}") from error
    except errors.LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{where} is not in the local cache, and the hub cannot be reached: "
            "pass --checkpoint FILE, or set HF_ENDPOINT to a mirror"
        ) from error
    except errors.EntryNotFoundError as error:
        raise CheckpointError(f"the hub has no {where}") from error
    except errors.HfHubHTTPError as error:
        raise CheckpointError(f"the hub does not give {where}: {str(error).splitlines()[0]}") from error
    # <cache>/snapshots/<commit>/<file> -> <cache>/blobs/<etag>, and a large file's etag is its sha256.
    commit, etag = path.parent.name, path.resolve().name
    return Download(path, f"{file.repository}@{commit}/{file.name}", etag if _SHA256.fullmatch(etag) else "")
