#!/usr/bin/env bash
#
# SPDX-FileCopyrightText: The Larder Authors
#
# SPDX-License-Identifier: Apache-2.0

# Runs the unit tests, and the integration tests against real API servers,
# with the race detector.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

echo "==> etcd and kube-apiserver for the integration tests (built once, then cached)"
parts=$(bin/build etcd kube-apiserver)
export TEST_ASSET_ETCD=$parts/etcd TEST_ASSET_KUBE_APISERVER=$parts/kube-apiserver KUBEBUILDER_ASSETS=$parts

echo "==> Unit and integration tests (a first compilation with the race detector takes minutes)"
mapfile -t packages < <(go list ./... | grep -vE '/test/(e2e|faults|conformance)$')
# The race detector is C.
CGO_ENABLED=1 go test -race -timeout 20m "$@" "${packages[@]}"
