#!/usr/bin/env bash
#
# SPDX-FileCopyrightText: The Larder Authors
#
# SPDX-License-Identifier: Apache-2.0

# Counts the packages that a cold "make up" compiles, including the standard library: those of this repository's programs
# and of each Go module with programs of the landscape. A package that two modules select in two versions is compiled
# twice. Then counts those that "make test" adds for Prometheus. Count another checkout with hack/count-packages.sh DIR.
set -euo pipefail
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"
export CGO_ENABLED=0 GOWORK=off

own=(./cmd/gardener-extension-registry-cache ./cmd/gardener-extension-registry-cache-admission ./cmd/registry-cache-server
  ./test/landscape/cmd/landscape ./test/landscape/cmd/demo ./test/landscape/cmd/pause)

# list DIR PACKAGE...: list the packages with their versions
list() {
  local dir=$1
  shift
  (cd "$dir" && go list -deps -f '{{.ImportPath}}{{with .Module}}@{{.Version}}{{end}}' "$@")
}

all=$(mktemp)
trap 'rm -f "$all"' EXIT
count() {
  local packages
  packages=$(list "${@:2}")
  echo "$packages" >> "$all"
  printf '%6d  %s\n' "$(wc -l <<< "$packages")" "$1"
}

count "this repository's programs" . "${own[@]}"
prometheus=test/landscape/parts/prometheus
for file in test/landscape/parts/*/go.mod; do
  dir=$(dirname "$file")
  if [ "$dir" = $prometheus ]; then
    continue
  fi
  # Imports behind a build tag pin programs of other repositories; our own programs are main packages.
  mapfile -t programs < <(cd "$dir" &&
    { go list -e -tags "parts,programs" -f '{{if ne .Name "main"}}{{join .Imports "\n"}}{{end}}' . 2> /dev/null || true
      go list -f '{{if eq .Name "main"}}{{.ImportPath}}{{end}}' ./... 2> /dev/null || true; } | sed '/^$/d')
  count "$dir" "$dir" "${programs[@]}"
done
printf '%6d  to compile\n' "$(sort -u "$all" | wc -l)"
printf '%6d  with different import paths\n' "$(sed 's/@.*//' "$all" | sort -u | wc -l)"
if [ -d $prometheus ]; then
  needed=$(mktemp)
  trap 'rm -f "$all" "$needed"' EXIT
  sort -u "$all" > "$needed"
  count $prometheus $prometheus -tags remove_all_sd,enable_kubernetes_sd ./prometheus-config \
    github.com/prometheus/prometheus/cmd/{prometheus,promtool}
  printf '%6d  to compile for the tests\n' "$(sort -u "$all" | comm -13 "$needed" - | wc -l)"
fi
