# Everything a fresh machine needs, with nothing to install by hand: each target first brings its environments up to date.
# Another Python than the first on the path, 3.11 or 3.12: make PYTHON=python3.12 serve
PYTHON ?= python3
setup = $(PYTHON) deploy/environments.py

serve:  ; @$(setup) serve && exec .venv/bin/pe-serve
# Measures the speed of the demo. `.venv/bin/pe-bench --repository DIR` measures another repository.
bench:  ; @$(setup) bench && .venv/bin/pe-bench speed
# Measures overload, faults, attack and memory, in a quarter of an hour.
hold:   ; @$(setup) test && .venv/bin/pe-bench resilience
check:  ; @$(setup) test && .venv/bin/ruff check . && .venv/bin/ruff format --check . \
	&& .venv/bin/mypy gateway deploy tests --exclude tests/export/ && .venv-export/bin/mypy export tests/export
# The exporter's environment lacks what most tests import, so it is given those files alone that have tests for it.
test: check ; @.venv/bin/pytest -m "not export and not gpu" \
	&& .venv-export/bin/pytest -m "export and not gpu" $$(grep -rlE --include='*.py' "mark\.export" tests)

# What the gateway's image installs, and builds with, after a change of the dependencies or of constraints/gateway.txt.
compile = .venv/bin/uv pip compile --quiet --no-strip-markers --constraint constraints/gateway.txt --python-platform linux --python-version 3.11 \
	--generate-hashes --no-annotate --custom-compile-command "make pins"
pins:   ; @$(setup) test && $(compile) pyproject.toml --output-file constraints/gateway-hashed.txt \
	&& $(compile) deploy/build-requirements.txt --output-file constraints/build-hashed.txt

# Known vulnerabilities of all that is pinned. Needs the network; what cannot be looked up counts as not verified.
audit:  ; @$(setup) test && .venv/bin/python -m deploy.audit

.PHONY: serve bench hold check test pins audit
