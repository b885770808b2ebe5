"""Published weights by name: one file from a model hub that speaks Hugging Face's protocol, kept in its usual cache.

Downloads resume, progress is shown, `HF_ENDPOINT`, `HF_HOME` and `HF_HUB_OFFLINE` mean what they always do, and a file
that is in the cache needs no network. A branch is resolved to its commit, which is recorded in the certificate: the
next export of that variant into the same repository takes the same commit, unless told otherwise.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from export.errors import CheckpointError, RepositoryError
from export.repository.certificate import Certificate
from export.repository.store import Repository
from export.variants import TOWERS, Variant

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


def recorded_commit(repository: Repository, variant: Variant) -> str:
    """The commit that the variant's newest models were exported from; empty if they were not, or not from the hub."""
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
    except errors.LocalEntryNotFoundError as error:  # what became of asking the hub is its cause
        raise CheckpointError(
            f"{where} is not in the local cache, and {_what_happened(error.__cause__)}: "
            "pass --checkpoint FILE, or set HF_ENDPOINT to a mirror"
        ) from error
    except errors.EntryNotFoundError as error:
        raise CheckpointError(f"the hub has no {where}") from error
    except errors.HfHubHTTPError as error:
        raise CheckpointError(f"{where} is not to be had: {_what_happened(error)}") from error
    except Exception as error:
        # Those of the client's HTTP library, which share no base but Exception.
        if type(error).__module__.split(".")[0] not in ("httpx", "httpx2", "httpcore", "hf_xet"):
            raise
        raise CheckpointError(
            f"{where} did not arrive whole: {_what_happened(error)}; the next run goes on from where this one stopped"
        ) from error
    # <cache>/snapshots/<commit>/<file> -> <cache>/blobs/<etag>, and a large file's etag is its sha256.
    commit, etag = path.parent.name, path.resolve().name
    return Download(path, f"{file.repository}@{commit}/{file.name}", etag if _SHA256.fullmatch(etag) else "")


def _what_happened(error: BaseException | None) -> str:
    """In a few words."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        hint = " (`hf auth login` helps where an account is needed)" if status == 401 else ""
        return f"the hub answers {status}{hint}"
    if error is None or not str(error):
        return "the hub cannot be reached"
    return f"the hub cannot be reached ({str(error).splitlines()[0]})"
