import pytest
import yaml

from deploy.yaml_text import Document

TEXT = """\
# About the document.
kind: Service  # a kind
metadata:
  labels: &labels
    a/b: one
    c: two  # the last label
spec:
  # About the selector.
  selector: *labels
  ports:
    # About the port.
    - {name: http, port: 9001}  # a port
    - name: metrics
      port: 8002
  limits: {cpu: "1", names: [a, b]}
"""


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/kind", "Deployment"),
        ("/metadata/labels/a~1b", "three"),
        ("/spec/selector", "{d: four}"),
        ("/spec/ports/0/port", "80"),
        ("/spec/ports/1", "{name: other}"),
        ("/spec/limits/names/1", "c"),
        ("/spec/limits/cpu", "2"),
        ("/spec/limits", "{}"),
    ],
)
def test_a_value_is_replaced_and_nothing_else(path: str, value: str) -> None:
    document = Document(TEXT)
    document.put(path, value)
    wanted = yaml.safe_load(TEXT)
    parent = wanted
    *parents, last = (name.replace("~1", "/") for name in path.split("/")[1:])
    for name in parents:
        parent = parent[int(name) if isinstance(parent, list) else name]
    if path.startswith("/metadata/labels"):
        wanted["spec"]["selector"] = {**wanted["metadata"]["labels"]}
        wanted["spec"]["selector"]["a/b"] = value
    parent[int(last) if isinstance(parent, list) else last] = yaml.safe_load(value) if path != "/spec/limits/cpu" else 2
    edited = document.edited()
    assert yaml.safe_load(edited) == wanted
    assert edited.count("#") == TEXT.count("#")


def test_paths_go_through_aliases() -> None:
    document = Document(TEXT)
    assert "/spec/selector/a~1b" in set(document.paths())
    assert document.scalar("/spec/selector/c") == "two"
    assert document.scalar("/spec/ports") is None


def test_several_edits_keep_their_places() -> None:
    document = Document(TEXT)
    document.put_below("/metadata/labels", "x: y", "z: 1")
    document.insert("/spec/selector", "type: ClusterIP")
    document.when("/spec/ports/0", ".Values.http")
    document.drop("/spec/ports/1")
    document.drop("/spec/selector")
    assert (
        document.edited()
        == """\
# About the document.
kind: Service  # a kind
metadata:
  labels:
    x: y
    z: 1
spec:
  type: ClusterIP
  ports:
    {{- if .Values.http }}
    # About the port.
    - {name: http, port: 9001}  # a port
    {{- end }}
  limits: {cpu: "1", names: [a, b]}
"""
    )


def test_a_path_that_is_not_there_is_named() -> None:
    with pytest.raises(KeyError, match="/spec/port: there is no port"):
        Document(TEXT).put("/spec/port", "1")
