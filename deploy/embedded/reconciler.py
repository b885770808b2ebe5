"""Reconcile the models that Triton serves with the models in the repository, while both change.

Triton's own poll mode cannot read the repository, because Triton must get other configurations than the repository
holds (engine choice, warm-up). So something has to publish changes to Triton anyway. Triton's poll mode would also load
half-copied models, and name a model that it cannot load only in its log.

The supervisor calls `step` once a second. A model or version is published after two scans in a row found it complete
and unchanged. If Triton cannot load what was published, it is withdrawn, since Triton would retry the load forever,
and is published again only after it changed.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from deploy.embedded import model_scan
from deploy.embedded.engine_choice import EngineChoice
from deploy.embedded.errors import LaunchError, RepositoryError, RunDirectoryUnusable
from deploy.embedded.events import EngineReplaced, Event, ModelLoaded, ModelRefused, ModelRemoved, ModelSkipped
from deploy.embedded.installation import Installation
from deploy.embedded.layout import Layout
from deploy.embedded.model_scan import Model

# Triton's index: name, version, state and reason of each version of each model.
Index = Sequence[Mapping[str, Any]]

# Triton polls every second. A configuration that Triton rejects never appears in its index, only in its log.
_UNLISTED_SECONDS: Final = 5.0
# Until Triton polls and loads what replaces a failed model, its index still has the reason of the failure.
_STALE_SECONDS: Final = 5.0
# Triton gives these as the reason for a version that it does not serve, but did not fail to load either.
_NOT_FAILURES: Final = ("", "unloaded")


class Reconciler:
    """The state of a reconciliation.

    Args:
        repository: the model repository.
        installation: the Triton environment, which limits the engines that models can use.
        layout: what models are published to.
        choice: the engine of each model.
        models: the models that Triton serves already.
        failure_reason: returns why a model is missing from Triton's index, if Triton's log says so.
    """

    def __init__(
        self,
        repository: Path,
        installation: Installation,
        layout: Layout,
        choice: EngineChoice,
        models: Iterable[Model],
        failure_reason: Callable[[str], str | None],
    ) -> None:
        self._repository = repository
        self._installation = installation
        self._layout = layout
        self._choice = choice
        self._failure_reason = failure_reason
        self._published = {model.name: model for model in models}
        self._loaded = dict(self._published)
        self._pending: dict[str, float] = {}  # models that Triton has yet to load, with the time of their publication
        self._refused: dict[str, Model] = {}
        self._failures: dict[str, str] = {}  # models that Triton could not load, and the reason
        self._last_scan: dict[str, Model] = {}
        self._last_errors: dict[str, str] = {}
        self._reported_errors: dict[str, str] = {}

    def triton_restarted(self) -> None:
        """Expect Triton to load every published model again."""
        self._pending = dict.fromkeys(self._published, time.monotonic())

    def step(self, index: Index) -> list[Event]:
        """Compare Triton's index and the repository with the last step, and publish what changed."""
        return [*self._check_pending(index), *self._publish_changes()]

    def _publish_changes(self) -> Iterable[Event]:
        """Publish models that are new or changed and settled, and withdraw those that are gone."""
        try:
            found, errors = self._scan()
        except (RepositoryError, OSError) as error:
            # The repository may be unmounted, or in the middle of a replacement. Loaded models stay in service.
            if isinstance(error, RepositoryError):
                yield from self._skip({"": error})
            return
        for name, model in found.items():
            settled = self._last_scan.get(name) == model
            if settled and model not in (self._published.get(name), self._refused.get(name)):
                try:
                    self._layout.publish(model)
                except RunDirectoryUnusable as error:  # tried again in the next step
                    errors[name] = error
                else:
                    self._published[name] = model
                    self._pending[name] = time.monotonic()
        yield from self._skip(errors)
        for name in set(self._published) - set(self._last_scan) - set(found) - set(errors):
            self._layout.withdraw(name)
            for known in (self._published, self._loaded, self._pending):
                known.pop(name, None)
            yield ModelRemoved(name)
        self._last_scan = found

    def _scan(self) -> tuple[dict[str, Model], dict[str, LaunchError]]:
        found, incomplete = model_scan.scan(self._repository)
        models, errors = {model.name: model for model in found}, dict[str, LaunchError](incomplete)
        for model in found:
            try:
                self._installation.require_engine(self._choice.engine_for(model), model.name)
            except LaunchError as error:
                errors[model.name] = error
                del models[model.name]
        return models, errors

    def _skip(self, errors: Mapping[str, LaunchError]) -> Iterable[Event]:
        # An error is reported once two scans found it, because a model that is being copied is incomplete for a while.
        described = {name: repr(vars(error)) for name, error in errors.items()}
        for name, text in described.items():
            if self._last_errors.get(name) == text != self._reported_errors.get(name):
                self._reported_errors[name] = text
                yield ModelSkipped(errors[name])
        self._last_errors = described
        self._reported_errors = {name: text for name, text in self._reported_errors.items() if name in errors}

    def _check_pending(self, index: Index) -> Iterable[Event]:
        """Find out which of the published models Triton has loaded, or could not load."""
        states = {(entry["name"], str(entry.get("version", ""))): entry for entry in index}
        for name, since in list(self._pending.items()):
            model = self._published[name]
            entry = states.get((name, str(model.latest)), {})
            if entry.get("state") == "READY":
                del self._pending[name]
                self._failures.pop(name, None)
                before, self._loaded[name] = self._loaded.get(name), model
                # If files change without a new version number, Triton's index stays the same: Triton serves the old
                # files until it loaded the new ones, and continues to if it cannot.
                if before is None or before.latest != model.latest:
                    yield ModelLoaded(name, model.latest)
            elif reason := self._new_failure(name, entry, seconds=time.monotonic() - since):
                yield self._replace_or_refuse(model, reason)

    def _new_failure(self, name: str, entry: Mapping[str, Any], seconds: float) -> str:
        """Return why Triton could not load what was published so long ago; "" if it may still load it."""
        reason = str(entry.get("reason", "")) if entry.get("state") == "UNAVAILABLE" else ""
        if not entry and seconds > _UNLISTED_SECONDS:
            reason = self._failure_reason(name) or ""
        is_stale = reason == self._failures.get(name) and seconds < _STALE_SECONDS
        return "" if is_stale or reason in _NOT_FAILURES else reason

    def _replace_or_refuse(self, model: Model, reason: str) -> Event:
        """Let onnxruntime run a model that failed to load, if its engine was chosen automatically. Else refuse it."""
        self._failures[model.name] = reason
        if self._choice.fall_back([model]):
            self._pending[model.name] = time.monotonic()
            with suppress(RunDirectoryUnusable):  # Triton then tries what it has again, and that is refused.
                self._layout.publish(model)
            return EngineReplaced(model.name, reason)
        del self._pending[model.name]
        self._refused[model.name] = model
        self._roll_back(model.name)
        return ModelRefused(model.name, model.latest, reason)

    def _roll_back(self, name: str) -> None:
        """Publish what Triton had loaded before, or withdraw the model if Triton had loaded nothing else."""
        before = self._loaded.get(name)
        if before is None or before == self._published[name]:
            self._layout.withdraw(name)
            del self._published[name]
            self._loaded.pop(name, None)
        else:
            with suppress(RunDirectoryUnusable):  # Triton then serves what it has loaded, and tries the other again.
                self._layout.publish(before)
            self._published[name] = before
