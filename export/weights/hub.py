"""Download published weights from the Hugging Face hub, or from a mirror with the same protocol.

The download is done by `huggingface_hub`, with its cache and its settings (`HF_ENDPOINT`, `HF_HOME`, `HF_HUB_OFFLINE`).
An interrupted download resumes. A cached file needs no network. The certificate records the commit of the file, and
the next export of the variant into the same repository uses that commit by default.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from export.errors import CheckpointError, RepositoryError
from export.repository.certificate import Certificate
from export.repository.store import Repository
from export.variants import TOWERS, Variant

# The file name of the weights in open_clip's repositories on the hub.
WEIGHTS: Final = "open_clip_model.safetensors"

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HubFile:
    """A file in a repository on the hub."""

    repository: str
    name: str


@dataclass(frozen=True)
class Download:
    """A file in the local cache, and its source."""

    path: Path
    source: str
    """Repository, commit and file name, as `repository@commit/file`."""
    sha256: str
    """SHA-256 that the hub publishes for the file; empty if the hub publishes none."""


def recorded_commit(repository: Repository, variant: Variant) -> str:
    """Find the commit from which the variant's newest models were exported.

    Returns:
        40 hexadecimal digits. Empty if the repository has no such model, or its weights are not from the hub.
    """
    pattern = re.compile(rf"{re.escape(variant.hub_repository)}@([0-9a-f]{{40}})/{re.escape(WEIGHTS)}")
    for tower in TOWERS:
        model = variant.model_name(tower)
        try:
            certificate = Certificate.read(repository.version_directory(model, repository.latest_version(model)))
        except RepositoryError:
            continue
        if found := pattern.fullmatch(certificate.checkpoint_source):
            return str(found[1])
    return ""


def fetch(file: HubFile, revision: str = "main") -> Download:
    """Download a file, or find it in the cache.

    Args:
        revision: a commit, branch or tag.

    Raises:
        CheckpointError: the file is neither in the cache nor available from the hub. The message gives the reason.
    """
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
    except errors.LocalEntryNotFoundError as error:  # Its cause is the failed request to the hub.
        raise CheckpointError(
            f"{where} is not in the local cache, and {_what_happened(error.__cause__)}: "
            "pass --checkpoint FILE, or set HF_ENDPOINT to a mirror"
        ) from error
    except errors.EntryNotFoundError as error:
        raise CheckpointError(f"the hub has no {where}") from error
    except errors.HfHubHTTPError as error:
        raise CheckpointError(f"{where} cannot be downloaded: {_what_happened(error)}") from error
    except Exception as error:
        # The HTTP library's exceptions have no common base class except Exception.
        if type(error).__module__.split(".")[0] not in ("httpx", "httpx2", "httpcore", "hf_xet"):
            raise
        raise CheckpointError(
            f"the download of {where} is incomplete: {_what_happened(error)}; run the command again to resume it"
        ) from error
    # The cache links <cache>/snapshots/<commit>/<file> to <cache>/blobs/<etag>. A large file's etag is its SHA-256.
    commit, etag = path.parent.name, path.resolve().name
    return Download(path, f"{file.repository}@{commit}/{file.name}", etag if _SHA256.fullmatch(etag) else "")


def _what_happened(error: BaseException | None) -> str:
    """Describe a failed request to the hub in one line."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        hint = " (`hf auth login` helps where an account is needed)" if status == 401 else ""
        return f"the hub answers {status}{hint}"
    if error is None or not str(error):
        return "the hub cannot be reached"
    return f"the hub cannot be reached ({str(error).splitlines()[0]})"
