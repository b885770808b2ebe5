"""The operator's pages: what their commands name is there, and their kustomizations render.

What can run here is run by images/test_cpu_profile.py and by this file.
"""

import os
import re
import shlex
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from deploy.generate import version
from tests.deploy import compose_file
from tests.deploy.compose_file import ROOT
from tests.deploy.test_kubernetes import KUSTOMIZE, TOPS, of_kind, render

pytestmark = pytest.mark.slow

PAGE = "".join((ROOT / page).read_text() for page in ("deploy/README.md", "deploy/kubernetes/README.md"))
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines()]
COMPOSE = [command for command in COMMANDS if "docker compose" in command]
KUBECTL = [command for command in COMMANDS if command.startswith("kubectl")]
KNOWN = {
    ".venv/bin/pe-bench",
    "deploy/kubernetes/wait-for-export.sh",  # run by test_kubernetes.py
    "deploy/setup.sh",  # run by test_setup.py
    *("cp", "curl", "docker", "echo", "gunzip", "hf", "kubectl", "openssl", "printf", "python3", "sed", "sudo"),
}
# The operator's own kustomizations, by folder.
SITE = dict(
    zip(
        re.findall(r"`(site/\w+)/kustomization\.yaml`[^`]*:\n", PAGE),
        (text for kind, text in BLOCKS if kind == "yaml"),
        strict=True,
    )
)


def test_there_is_something_to_check() -> None:
    assert len(COMPOSE) > 8
    assert len(KUBECTL) > 4


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_of_a_kind_that_is_checked_somewhere(command: str) -> None:
    (program, *_) = (word for word in shlex.split(command) if "=" not in word and word != "{")
    assert program in KNOWN


@pytest.mark.parametrize("command", COMPOSE)
def test_compose_commands_name_what_is_there(command: str) -> None:
    words = shlex.split(re.findall(r"[^$(]*docker compose[^)|]*", command)[0])
    given = {word.partition("=")[0] for word in words if re.match(r"[A-Z_]+=", word)}
    known = set(re.findall(r"\$\{([A-Z_0-9]+)", compose_file.FILE.read_text()))
    assert given <= known
    assert words[words.index("-f") + 1] == "deploy/compose.yaml"
    services = yaml.safe_load(compose_file.FILE.read_text())["services"]
    after = words[words.index("-f") + 2 :]
    verb, *rest = after[2:] if after[0] == "--profile" else after
    assert verb in {"build", "config", "down", "logs", "pull", "run", "up"}
    named = [word for word in rest if not word.startswith("-") and word != "never"]
    assert set(named) <= set(services), named


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("docker build")])
def test_what_is_built_is_what_the_manifests_name(command: str) -> None:
    words = shlex.split(command)
    dockerfile, tag = (words[words.index(option) + 1] for option in ("--file", "--tag"))
    assert (ROOT / dockerfile).is_file()
    text = "".join(yaml.safe_dump_all(render(name)) for name in TOPS)
    assert f"image: {tag.rpartition('/')[2]}\n" in text


@pytest.mark.parametrize("command", KUBECTL)
def test_kubectl_commands_name_what_is_there(command: str) -> None:
    words = shlex.split(command)
    rendered = {(manifest["kind"].lower(), manifest["metadata"]["name"]) for name in TOPS for manifest in render(name)}
    for word in words:
        if found := re.fullmatch(r"(job|deployment|service|pod)/(\S+)", word):
            assert (found[1], found[2]) in rendered
    if "--kustomize" in words:
        folder = words[words.index("--kustomize") + 1]
        assert folder in SITE or folder.removeprefix("deploy/kubernetes/") in TOPS
    if "--custom" in words:
        assert (ROOT / words[words.index("--custom") + 1]).is_file()
        # `kubectl debug` cannot merge these fields into its container (KEP-4292).
        custom = yaml.safe_load((ROOT / words[words.index("--custom") + 1]).read_text())
        assert not {"name", "image", "command", "lifecycle", "volumeDevices"} & set(custom)
    if "--namespace" in words:
        assert ("namespace", words[words.index("--namespace") + 1]) in rendered


@pytest.mark.parametrize("folder", SITE)
def test_the_operators_kustomizations_render(folder: str, tmp_path: Path) -> None:
    text = SITE[folder]
    assert "../../deploy/" in text
    (tmp_path / "kustomization.yaml").write_text(
        text.replace("../../deploy", os.path.relpath(ROOT / "deploy", tmp_path))
    )
    run = subprocess.run([KUSTOMIZE, "build", tmp_path], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    own = [image for image in re.findall(r"image: (\S+)\n", run.stdout) if "perception-encoder" in image]
    assert len(own) == (folder != "site/storage")
    for image in own:
        assert re.fullmatch(rf"registry\.example\.com/perception-encoder-\w+:\S*{re.escape(version())}", image)


def test_paths_in_the_text_are_there() -> None:
    for path in re.findall(r"(?<![\w/.])((?:deploy|constraints|kubernetes)/[\w./-]+\w)", PAGE):
        if path not in ("deploy/.env", "deploy/gateway.env", "deploy/secrets/api-keys"):  # which the operator writes
            assert (ROOT / path).exists() or (ROOT / "deploy" / path).exists(), path


def test_the_alerts_become_a_rule_of_the_operator() -> None:
    (command,) = (command for command in COMMANDS if "PrometheusRule" in command)
    made, _, applied = command.rpartition(" | ")
    assert applied.startswith("kubectl")
    run = subprocess.run(["bash", "-c", made], cwd=ROOT, capture_output=True, text=True, check=True)
    rule = yaml.safe_load(run.stdout)
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    monitor = of_kind("overlays/several-gpus", "PodMonitor")
    assert rule["metadata"]["labels"] == monitor["metadata"]["labels"]
    assert rule["spec"] == yaml.safe_load((ROOT / "deploy/monitoring/alerts.yaml").read_text())


def test_the_release_is_changed_as_the_page_says(tmp_path: Path) -> None:
    """Word for word, in a copy of the checkout."""
    (text,) = (text for kind, text in BLOCKS if "deploy/generate.py" in text)
    files = (
        "pyproject.toml",
        "deploy/generate.py",
        "deploy/triton-release.txt",
        "deploy/compose.yaml",
        "deploy/images/export.Dockerfile",
    )
    for name in (*files, "deploy/kubernetes/common/models.env", "deploy/kubernetes/base/kustomization.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    runnable = "\n".join(line for line in text.splitlines() if not line.startswith("docker"))
    subprocess.run(["bash", "-ec", runnable], cwd=tmp_path, check=True, capture_output=True)
    (new,) = re.findall(r"^echo (\S+) > deploy/triton-release.txt$", text, re.MULTILINE)
    assert f"tritonserver:${{TRITON_RELEASE:-{new}}}-py3\n" in (tmp_path / "deploy/compose.yaml").read_text()
    assert f"TRITON_RELEASE={new}\n" in (tmp_path / "deploy/kubernetes/common/models.env").read_text()
    assert f"newTag: {new}-py3\n" in (tmp_path / "deploy/kubernetes/base/kustomization.yaml").read_text()


def test_the_front_is_turned_to_green_with_its_whole_selector() -> None:
    """`kubectl set selector` replaces the whole selector."""
    (command,) = (command for command in KUBECTL if " set selector " in command)
    selector = dict(pair.split("=") for pair in shlex.split(command)[-1].split(","))
    assert selector == of_kind("blue-green/green", "Service")["spec"]["selector"]
    front = of_kind("blue-green/front", "Service")["spec"]["selector"]
    assert {key for key in front if front[key] != selector[key]} == {"perception-encoder/color"}


def test_what_proves_that_metrics_arrive_asks_where_they_are() -> None:
    prometheus, adapter = (shlex.split(command)[-1] for command in KUBECTL if " get --raw " in command)
    values = yaml.safe_load((ROOT / "deploy/kubernetes/components/autoscaling/prometheus-adapter.yaml").read_text())
    found = re.fullmatch(r"/api/v1/namespaces/(\S+)/services/(\S+):9090/proxy/api/v1/query\?query=(\S+)", prometheus)
    assert found
    assert values["prometheus"]["url"] == f"http://{found[2]}.{found[1]}.svc"
    assert unquote(found[3]) == 'up{namespace="perception-encoder"}'
    assert adapter.rpartition("/")[2] in {rule["name"]["as"] for rule in values["rules"]["custom"]}
