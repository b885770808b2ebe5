"""deploy/helm/README.md: the values of its commands render, in their order, and the names that it uses are there."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.deploy.helm_library import CHART, Helm
from tests.deploy.test_kubernetes import FOLDER, ROOT, Manifest

pytestmark = pytest.mark.slow

PAGE = (CHART / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [shlex.split(line) for kind, text in BLOCKS if kind == "bash" for line in text.splitlines()]
NAMESPACE = yaml.safe_load((FOLDER / "storage/namespace.yaml").read_text())["metadata"]["name"]


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Helm]:
    program = Helm(tmp_path_factory.mktemp("helm"))
    yield program
    program.close()


def merged(values: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """As Helm merges files of values."""
    result = dict(values)
    for key, value in more.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def options(words: list[str], name: str) -> list[str]:
    return [words[index + 1] for index, word in enumerate(words) if word == name]


def values_of(words: list[str]) -> dict[str, Any]:
    """The values of a command, with all of the page's `site.yaml`."""
    values: dict[str, Any] = {}
    assert options(words, "--values") == ["site.yaml"]
    for kind, text in BLOCKS:
        if kind == "yaml":
            values = merged(values, yaml.safe_load(text))
    for pair in options(words, "--set"):
        path, _, text = pair.partition("=")
        value: Any = yaml.safe_load(text)
        for key in reversed(path.split(".")):
            value = {key: value}
        values = merged(values, value)
    return values


def test_releases_are_installed_changed_and_ended_in_the_pages_order(helm: Helm) -> None:
    releases: dict[str, dict[tuple[str, str], Manifest]] = {}
    hosts: dict[str, set[str]] = {}
    for program, *words in COMMANDS:
        if program == "helm":
            verb, release = words[:2]
            assert options(words, "--namespace") == [NAMESPACE]
            assert (verb == "install") == (release not in releases), words
            if verb == "uninstall":
                del releases[release]
            elif verb != "rollback":
                assert words[2] == "deploy/helm"
                manifests = helm.template(values_of(words), release=release)
                releases[release] = {(one["kind"], one["metadata"]["name"]): one for one in manifests}
                hosts[release] = {
                    rule["host"] for one in manifests if one["kind"] == "Ingress" for rule in one["spec"]["rules"]
                }
            objects = [key for manifests in releases.values() for key in manifests]
            assert len(set(objects)) == len(objects)
            assert len(set().union(*hosts.values())) == sum(map(len, hosts.values()))
        elif program == "kubectl":
            there = {(kind.lower(), name) for manifests in releases.values() for kind, name in manifests}
            for kind, name in (word.split("/") for word in words if re.fullmatch(r"[a-z]+/[\w-]+", word)):
                assert (kind, name) in there
    assert set(releases) == {"green"}


def test_the_servers_serve_what_the_export_wrote(helm: Helm) -> None:
    """Per folder of the volume, exports and servers have the same variables."""
    seen: dict[str, list[dict[str, str]]] = {}
    for words in COMMANDS:
        if words[:2] in (["helm", "install"], ["helm", "upgrade"]):
            for manifest in helm.template(values_of(words[1:]), release=words[2]):
                if "PE_VARIANT" in manifest.get("data", {}):
                    seen.setdefault(manifest["data"]["PE_MODELS"], []).append(manifest["data"])
    assert set(seen) == {"1", "2"}
    assert len({str(data) for data in seen["1"]}) == 1


def test_secrets_that_values_name_are_made() -> None:
    made = {words[words.index("generic") + 1] for words in COMMANDS if "generic" in words}
    named = {
        value[key]
        for kind, text in BLOCKS
        if kind == "yaml"
        for value in yaml.safe_load(text).values()
        for key in ("existingSecret", "apiKeysSecret")
        if key in value
    }
    assert made == named


def test_files_that_it_names_are_there() -> None:
    for path in re.findall(r"(?<![\w/.])deploy/[\w./-]+\w", PAGE):
        assert (ROOT / path).exists(), path
    assert "helm" in {words[0] for words in COMMANDS} <= {"curl", "helm", "kubectl"}
