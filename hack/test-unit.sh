#!/usr/bin/env bash
#
# SPDX-FileCopyrightText: The Larder Authors
#
# SPDX-License-Identifier: Apache-2.0

# Runs the unit tests and the integration tests with real API servers.
#
# The race detector compiles all imports of a package again. So only packages with goroutines of their own use it:
# those of the cache server, of the controller of pull secrets (by its integration test), and of the landscape's
# supervisor, builder and progress. Elsewhere, the product starts goroutines in three places only, each of which fills
# one slot of a slice. RACE=all uses it for all packages; those that import Gardener then take minutes to compile.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

echo "==> Build etcd, kube-apiserver and promtool for the tests (cached)"
parts=$(bin/build etcd kube-apiserver)
export TEST_ASSET_ETCD=$parts/etcd TEST_ASSET_KUBE_APISERVER=$parts/kube-apiserver KUBEBUILDER_ASSETS=$parts
LARDER_PROMTOOL=$(bin/build promtool)/promtool
export LARDER_PROMTOOL

concurrent='/(pkg/cacheserver|cmd/registry-cache-server|test/upstreamsim|test/integration/pullsecrets|test/landscape/(parts|progress|supervisor))(/|$)'
if [ "${RACE:-}" = all ]; then
  concurrent=.
fi
mapfile -t packages < <(go list ./... | grep -vE '/test/(e2e|faults|conformance)$')
mapfile -t race < <(printf '%s\n' "${packages[@]}" | grep -E "$concurrent")
mapfile -t plain < <(printf '%s\n' "${packages[@]}" | grep -vE "$concurrent")

if [ ${#plain[@]} -gt 0 ]; then
  echo "==> Unit and integration tests"
  hack/go-test.sh -timeout 1h "$@" "${plain[@]}"
fi
# A module of its own.
(cd test/landscape/parts/prometheus && go test -vet=off ./...)
echo "==> Tests with the race detector"
# The race detector needs cgo.
if ! command -v "${CC:-gcc}" > /dev/null; then
  echo "==> Install gcc"
  { apt-get update --quiet && DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends gcc libc6-dev; } > /dev/null ||
    { echo "the race detector needs a C compiler: install gcc" >&2; exit 1; }
fi
CGO_ENABLED=1 hack/go-test.sh -race -timeout 1h "$@" "${race[@]}"
