#!/usr/bin/env bash
# Put what the container tests need into .tools/engine: deploy/container_tools.sh [--check|--daemon]
#
#   debian.tar   a root file system with Python, of which the tests make images that stand in for published ones
#   usr/         a Docker engine with Compose and Buildx, unless a Docker daemon answers already
#
# The engine's packages are unpacked, not installed: an installation would start a daemon and keep it. They are those of
# Debian 13, because Debian 12 has no Compose, and its Docker 20.10 does not know the start intervals of health checks.
# runc is this system's, because it is linked with this system's libraries. With --check nothing is done, and the exit
# status says whether all is there; with --daemon, whether a Docker daemon with Compose answers this user.
set -euo pipefail
cd "$(dirname "$0")/.."

engine=$PWD/.tools/engine
packages=(docker.io docker-cli containerd docker-compose docker-buildx)
# `python` is what the gateway's base has. `curl` is in NVIDIA's image, `wget` in Prometheus's, for their health checks.
base=(base-files base-passwd bash coreutils dash findutils grep libc-bin sed
  python3 python3-pip-whl python3-setuptools-whl libpython3.11 libstdc++6 curl wget)

daemon_answers() { docker compose version && docker info; } >/dev/null 2>&1
has_engine() { [ -x "$engine/usr/bin/docker" ] && command -v ip && [ -x /usr/sbin/iptables ]; } >/dev/null
is_complete() { [ -f "$engine/debian.tar" ] && { has_engine || daemon_answers; }; }

case ${1:-} in --check) is_complete; exit ;; --daemon) daemon_answers; exit ;; esac
command -v apt-get >/dev/null || { echo "The container tests take an engine and images from Debian's packages, by apt-get." >&2; exit 1; }
started=$SECONDS
mkdir -p "$engine"
work=$(mktemp -d "$engine/new.XXXXXX")
trap 'rm -rf "$work"' EXIT
# Where this system takes its own packages from has those of other releases too.
mirror=$(apt-get indextargets --format '$(REPO_URI)' "Created-By: Packages" "Origin: Debian" "Label: Debian" | sort -u | head -n 1)
[ -n "$mirror" ] || { echo "This system's apt has no source of Debian's packages." >&2; exit 1; }
source_of() { echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $1 main"; }

if [ ! -x "$engine/usr/bin/docker" ] && ! daemon_answers; then
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs"
  source_of trixie >"$work/trixie.list"
  of_debian_13=(-o "Dir::Etc::sourcelist=$work/trixie.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists"
    -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none)
  apt-get "${of_debian_13[@]}" update -qq
  (cd "$work/debs" && apt-get "${of_debian_13[@]}" download -qq "${packages[@]}" && apt-get -o APT::Sandbox::User=root download -qq runc)
  for archive in "$work"/debs/*.deb; do dpkg-deb --extract "$archive" "$work/root"; done
  rm -rf "$engine/usr"
  mv "$work/root/usr" "$engine/usr"
fi
if [ ! -f "$engine/debian.tar" ]; then
  # Unpacked, not configured: that takes a tenth of the time, and what the images need of it they do themselves.
  source_of bookworm | mmdebstrap --quiet --variant=extract --include="$(IFS=,; echo "${base[*]}")" bookworm "$work/debian.tar" -
  mv "$work/debian.tar" "$engine/debian.tar"
fi
echo "  .tools/engine made in $((SECONDS - started)) s (for the container tests)" >&2
