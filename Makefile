# Everything a fresh machine needs, and nothing to install by hand: each target first brings its environments up to date.
PYTHON ?= python3
setup = $(PYTHON) deploy/environments.py

serve:  ; @$(setup) serve && exec .venv/bin/pe-serve
check:  ; @$(setup) test && .venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy gateway deploy tests && .venv-export/bin/mypy export
test: check ; @.venv/bin/pytest -m "not export and not gpu" && .venv-export/bin/pytest -m "export and not gpu"

.PHONY: serve check test
