"""What Triton serves, brought up to date with what the repository holds, while both run.

Every second it looks. What is new or changed is shown to Triton once two looks have found it whole and the same; what
Triton then cannot load is withdrawn, or it would try for ever, and shown again only when it has changed.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.embedded import installation, repository_scan
from deploy.embedded.errors import LaunchError, RepositoryError
from deploy.embedded.events import Event, ModelGone, ModelLoaded, ModelPassedOver, ModelRefused
from deploy.embedded.installation import Installation
from deploy.embedded.layout import Layout
from deploy.embedded.repository_scan import Model

Index = Sequence[Mapping[str, Any]]  # Triton's: name, version, state and reason of each version of each model
# Triton looks every second, and says of a configuration that it cannot read nothing but in its log.
_UNMENTIONED_S = 5.0
_WITHDRAWN = ("", "unloaded")  # no reasons to refuse


class RepositoryWatcher:
    """`models`: what Triton serves already. `reason`: why a model is not even in Triton's index, if its log says so."""

    def __init__(
        self,
        path: Path,
        installation: Installation,
        layout: Layout,
        models: Iterable[Model],
        reason: Callable[[str], str | None],
    ) -> None:
        self._path = path
        self._installation = installation
        self._layout = layout
        self._reason = reason
        self._shown = {model.name: model for model in models}
        self._loaded = dict(self._shown)
        self._expected: dict[str, float] = {}  # of what is not loaded yet: when it was shown
        self._refused: dict[str, Model] = {}
        self._seen: dict[str, Model] = {}
        self._wrong: dict[str, str] = {}  # as of the last look
        self._told: dict[str, str] = {}

    def expect_all(self) -> None:
        """Triton was started anew, and has yet to load everything."""
        self._expected = dict.fromkeys(self._shown, time.monotonic())

    def step(self, index: Index) -> list[Event]:
        """One look at the repository and at Triton's index."""
        return [*self._outcomes(index), *self._changes()]

    def _changes(self) -> Iterable[Event]:
        try:
            found, incomplete = repository_scan.scan(self._path)
        except (RepositoryError, OSError) as error:
            # Unmounted, perhaps, or being replaced. Nothing is taken out of service for that.
            if isinstance(error, RepositoryError):
                yield from self._pass_over({"": error})
            return
        models, wrong = {model.name: model for model in found}, dict[str, LaunchError](incomplete)
        for model in found:
            try:
                installation.require_engines(self._installation, [model])
            except LaunchError as error:
                wrong[model.name] = error
                del models[model.name]
        yield from self._pass_over(wrong)
        for name, model in models.items():
            settled = self._seen.get(name) == model
            if settled and model not in (self._shown.get(name), self._refused.get(name)):
                self._layout.publish(model)
                self._shown[name] = model
                self._expected[name] = time.monotonic()
        for name in set(self._shown) - set(self._seen) - set(models) - set(wrong):
            self._layout.withdraw(name)
            for known in (self._shown, self._loaded, self._expected):
                known.pop(name, None)
            yield ModelGone(name)
        self._seen = models

    def _pass_over(self, wrong: Mapping[str, LaunchError]) -> Iterable[Event]:
        """Tells once what two looks found wrong: what is being copied at the moment is not whole yet."""
        described = {name: repr(vars(error)) for name, error in wrong.items()}
        for name, text in described.items():
            if self._wrong.get(name) == text != self._told.get(name):
                self._told[name] = text
                yield ModelPassedOver(wrong[name])
        self._wrong = described
        self._told = {name: text for name, text in self._told.items() if name in wrong}

    def _outcomes(self, index: Index) -> Iterable[Event]:
        states = {(entry["name"], str(entry.get("version", ""))): entry for entry in index}
        for name, since in list(self._expected.items()):
            model = self._shown[name]
            entry = states.get((name, str(model.latest)), {})
            reason = entry.get("reason", "") if entry.get("state") == "UNAVAILABLE" else ""
            if not entry and time.monotonic() - since > _UNMENTIONED_S:
                reason = self._reason(name) or ""
            if entry.get("state") == "READY":
                del self._expected[name]
                before, self._loaded[name] = self._loaded.get(name), model
                # Of files that changed under the same number, Triton's index tells nothing: it serves the old ones
                # until the new ones are loaded, and on if they cannot be.
                if before is None or before.latest != model.latest:
                    yield ModelLoaded(name, model.latest)
            elif reason not in _WITHDRAWN:
                del self._expected[name]
                self._refused[name] = model
                self._withdraw(name)
                yield ModelRefused(name, model.latest, reason)

    def _withdraw(self, name: str) -> None:
        """Back to what was loaded before, if anything was."""
        before = self._loaded.get(name)
        if before is None or before == self._shown[name]:
            self._layout.withdraw(name)
            del self._shown[name]
            self._loaded.pop(name, None)
        else:
            self._layout.publish(before)
            self._shown[name] = before
