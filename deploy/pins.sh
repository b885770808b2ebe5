#!/usr/bin/env bash
# Write the hash-pinned files in constraints/, one for each environment: deploy/pins.sh [--upgrade]
#
# Versions that the files name already are kept where pyproject.toml still allows them; --upgrade takes the newest.
set -euo pipefail
cd "$(dirname "$0")/.."

upgrade=${1:-}

# compile NAME ARGUMENTS: for Linux with Python 3.11. The packages and versions are the same for 3.12 and 3.13, and a file
# has the hashes of all wheels. It must not name an index, which is for each machine to choose.
compile() {
  local name=$1
  shift
  .tools/uv/bin/uv pip compile --quiet --python-platform x86_64-manylinux_2_36 --python-version 3.11 --no-strip-markers \
    --generate-hashes --no-annotate --no-emit-index-url --custom-compile-command "make pins" $upgrade \
    --output-file "constraints/$name.txt" "$@"
}

# requirements KEYS: a list of pyproject.toml, one requirement a line.
requirements() {
  .tools/uv/bin/python -c 'import functools, sys, tomllib
print(*functools.reduce(dict.get, sys.argv[1:], tomllib.load(open("pyproject.toml", "rb"))), sep="\n")' "$@"
}

compile uv - <<<'uv>=0.13,<0.14'
requirements build-system requires | compile build -
compile dev pyproject.toml --group dev
compile gateway pyproject.toml --constraint constraints/dev.txt
# The gateway's image also sends traces, because nothing can be installed into a running container.
compile gateway-image pyproject.toml --extra otel --constraint constraints/dev.txt
requirements project optional-dependencies export | compile export-dev - --group export-test
requirements project optional-dependencies export | compile export - --constraint constraints/export-dev.txt
compile bulk-dev pyproject.toml --extra bulk --extra ray --group bulk-test --constraint constraints/dev.txt
compile bulk pyproject.toml --extra bulk --extra ray --constraint constraints/bulk-dev.txt
# Without dependencies: the Python API of nvidia-pytriton has thirty, and the server in its wheel needs none of them.
compile triton --no-deps deploy/embedded/requirements.txt
compile triton-openvino --no-deps deploy/embedded/requirements.txt deploy/embedded/requirements-openvino.txt
compile triton-cuda --no-deps deploy/embedded/requirements-cuda.txt
requirements dependency-groups clients | compile clients -
requirements dependency-groups perf-analyzer | compile bench --no-deps -
