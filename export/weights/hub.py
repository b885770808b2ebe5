"""Download published weights from the Hugging Face hub, or from a mirror with the same protocol.

`huggingface_hub` does the download, with its cache and its settings (`HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`,
`HF_HUB_OFFLINE`) and those of its HTTP library (`HTTPS_PROXY`, `SSL_CERT_FILE`). A cached file needs no network. The
certificate records the commit of the file, and the next export of the variant into the same repository uses that commit
by default.

`hf_hub_download` deletes what an interrupted process has downloaded (2.4, `_download_to_tmp_and_move`). So `_download`
puts the file into the cache first: it keeps a partial file there, and the next process continues it.
"""

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from export import free_space
from export.errors import CheckpointError, RepositoryError
from export.files import readable_size
from export.progress import Advance, Progress
from export.repository.certificate import Certificate
from export.repository.store import Repository
from export.variants import TOWERS, Variant

# The file name of the weights in open_clip's repositories on the hub.
WEIGHTS: Final = "open_clip_model.safetensors"

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_NO_CONNECTION: Final = ("ConnectError", "ConnectTimeout", "ProxyError")  # the HTTP library's
_PROXIES: Final = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


@dataclass(frozen=True)
class HubFile:
    """A file in a repository on the hub."""

    repository: str
    name: str

    @property
    def page(self) -> str:
        """Where a browser downloads it."""
        return f"https://huggingface.co/{self.repository}/resolve/main/{self.name}"


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


def fetch(
    file: HubFile,
    revision: str = "main",
    progress: Progress | None = None,
    others: Sequence[HubFile] = (),
    also_needed: Sequence[free_space.Need] = (),
) -> Download:
    """Download a file, or find it in the cache.

    Args:
        revision: a commit, branch or tag.
        progress: what to show the progress on.
        others: files with the same weights, which the message for a machine without a network names too.
        also_needed: disk space that is needed besides that of the file.

    Raises:
        CheckpointError: the file is neither in the cache nor available from the hub. The message gives the reason.
        DiskSpaceError: the file and `also_needed` do not fit on the disk.
    """
    from huggingface_hub import hf_hub_download

    certificates = os.environ.get("SSL_CERT_FILE")
    if certificates and not os.path.isfile(certificates):
        raise CheckpointError(f"SSL_CERT_FILE names {certificates}, which is no file")
    with _hub_errors(file, revision, others):
        planned = hf_hub_download(file.repository, file.name, revision=revision, dry_run=True)
        if planned.will_download:
            # <cache>/snapshots/<commit>/<file>, beside <cache>/blobs/<etag>
            blobs = Path(planned.local_path).parents[2] / "blobs"
            _download(file, planned.commit_hash, blobs, progress or Progress(), also_needed)
        path = Path(hf_hub_download(file.repository, file.name, revision=revision))
    # The cache links <cache>/snapshots/<commit>/<file> to <cache>/blobs/<etag>. A large file's etag is its SHA-256.
    commit, etag = path.parent.name, path.resolve().name
    return Download(path, f"{file.repository}@{commit}/{file.name}", etag if _SHA256.fullmatch(etag) else "")


@contextmanager
def _hub_errors(file: HubFile, revision: str, others: Sequence[HubFile]) -> Iterator[None]:
    """Raise the errors of `huggingface_hub` and of its HTTP library as `CheckpointError`. Arguments: as for `fetch`."""
    from huggingface_hub import errors

    where = f"{file.repository}/{file.name} at {revision}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise CheckpointError(f"{where} is gated: accept its terms on the hub, then `hf auth login`") from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(f"the hub has no repository {file.repository}, or not for this account") from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"the hub has no revision {revision} of {file.repository}") from error
    except errors.LocalEntryNotFoundError as error:  # Its cause is the failed request to the hub.
        pages = " or ".join(known.page for known in (file, *others))
        raise CheckpointError(
            f"{where} is not in the local cache, and {_what_happened(error.__cause__)}: set HF_ENDPOINT to a mirror, "
            f"or bring {pages} from another machine and pass --checkpoint FILE (make serve CHECKPOINT=FILE)"
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


def _download(
    file: HubFile, commit: str, blobs: Path, progress: Progress, also_needed: Sequence[free_space.Need]
) -> None:
    """Download a file into the cache's directory of contents, from where an interrupted download stopped.

    The download is plain HTTP with byte ranges. The hub's other protocol, of `hf_xet`, always begins anew.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    url = hf_hub_url(file.repository, file.name, revision=commit)
    metadata = get_hf_file_metadata(url, retry_on_errors=True)
    if not metadata.etag:  # Without a digest, a partial file may belong to other contents.
        return
    blobs.mkdir(parents=True, exist_ok=True)
    complete = blobs / metadata.etag
    partial = blobs / f"{metadata.etag}.partial"
    with partial.open("ab") as output:
        fcntl.flock(output, fcntl.LOCK_EX)
        if complete.exists():  # Another process completed it while this one waited for the lock.
            return
        start, size = output.seek(0, 2), metadata.size
        if size is not None:
            need = free_space.Need("the weights", blobs, max(0, size - start), "HF_HOME")
            free_space.require([need, *also_needed])
        detail = f"{file.name}, {readable_size(size or 0)}" + (f", resumed at {readable_size(start)}" if start else "")
        with progress.step("weights", "download", detail) as advance:
            http_get(
                url,
                output,
                resume_size=start,
                headers=build_hf_headers(),
                expected_size=size,
                tqdm_class=_bar(advance),
            )
        partial.rename(complete)


def _bar(advance: Advance) -> Any:
    """Return a class with the part of tqdm's interface that `http_get` uses. It reports to `advance`."""

    class Bar:
        def __init__(self, total: int | None = None, initial: int = 0, **_: Any) -> None:
            self._total, self._done = total, initial
            self.update(0)

        def update(self, received: int) -> None:
            self._done += received
            if self._total:
                advance(self._done / self._total)

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None: ...

    return Bar


def _what_happened(error: BaseException | None) -> str:
    """Describe a failed request to the hub in one line."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        hint = " (`hf auth login` helps where an account is needed)" if status == 401 else ""
        return f"the hub answers {status}{hint}"
    if error is None or not str(error):
        return "the hub cannot be reached"
    hint = ""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        hint = "; SSL_CERT_FILE=FILE names the certificates to trust, for example those of your proxy"
    elif type(error).__name__ in _NO_CONNECTION:
        proxies = [name for name in _PROXIES if os.environ.get(name)]
        hint = f"; the proxy of {' and '.join(proxies)} was used" if proxies else "; HTTPS_PROXY=URL names a proxy"
    return f"the hub cannot be reached ({str(error).splitlines()[0]}{hint})"
