# Each target first brings its environments up to date: a fresh machine needs nothing installed by hand.
# Another Python than the first one on the path: make PYTHON=python3.12 serve
export PYTHON ?= python3
# Without bytecode, pytest compiles every test again in every run.
unexport PYTHONDONTWRITEBYTECODE
setup = deploy/setup.sh
again =

# The models of model_repository/, or a real one: make serve VARIANT=PE-Core-B16-224, or make serve CHECKPOINT=FILE
serve:  ; @$(setup) serve && exec .venv/bin/python -m deploy.real_model.cli
# Measures the speed of the demo. `.venv/bin/pe-bench --repository DIR` measures another repository.
bench:  ; @$(setup) bench && .venv/bin/pe-bench speed
# Measures overload, faults, attack and memory, in a quarter of an hour.
hold:   ; @$(setup) test && .venv/bin/pe-bench resilience
# Makes the environment of pe-embed and pe-search.
bulk:   ; @$(setup) bulk && echo "Ready: .venv-bulk/bin/pe-embed and .venv-bulk/bin/pe-search"
check:  ; @$(setup) test && .venv/bin/ruff check . && .venv/bin/ruff format --check . \
	&& .venv/bin/typos && .venv/bin/python -m tests.prose \
	&& .venv/bin/mypy gateway deploy tests --exclude 'tests/export/|deploy/bulk/' \
	&& .venv-export/bin/mypy export tests/export && .venv-bulk/bin/mypy deploy/bulk tests/deploy/bulk
# Three at a time on two cores, because most of them wait for servers to start. The exporter's environment lacks what most tests import, so it is given only those files that have tests for it.
# Continuous integration runs the container tests too. Elsewhere nobody gets a Docker daemon without asking for it.
# `.ci/run` sets `again`: options of pytest to repeat a failed test.
test: check
	@.venv/bin/pytest $(again) -n 3 -m "not bulk and not export and not containers"
	@.venv-export/bin/pytest $(again) -m export $$(grep -rlE --include='*.py' "mark\.export" tests)
	@.venv-bulk/bin/pytest $(again) -m bulk tests/deploy/bulk
	@if [ -n "$$CI" ]; then $(MAKE) --no-print-directory containers; \
	else echo "Not run: the container tests. They start a Docker daemon where none answers. To run them: make containers"; fi
# The images, the Compose file and the pod on a real Docker engine: the one that answers, else one that is started and stopped here, which needs root.
containers: ; @$(setup) containers && .venv/bin/pytest $(again) -n 0 -m containers tests/deploy/images
# Writes constraints/ again after a change of the dependencies; `deploy/pins.sh --upgrade` takes the newest versions.
pins:   ; @$(setup) bench && deploy/pins.sh
# Known vulnerabilities of all that is pinned. Fails where the database cannot be reached.
audit:  ; @$(setup) bench && for pins in constraints/*.txt; do \
	.venv/bin/pip-audit --strict --disable-pip --require-hashes -r $$pins || exit; done

.PHONY: serve bulk bench hold check test containers pins audit
