#!/usr/bin/env bash
#
# SPDX-FileCopyrightText: The Larder Authors
#
# SPDX-License-Identifier: Apache-2.0

# Regenerates all generated files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tool() { go tool -modfile=hack/tools/go.mod "$@"; }
header=hack/LICENSE_BOILERPLATE.txt

internal=(./pkg/apis/registry ./pkg/apis/mirror)
versioned=(./pkg/apis/registry/v1alpha3 ./pkg/apis/mirror/v1alpha1)
config=(./pkg/apis/config/v1alpha1)

echo "==> Generate deep copies, defaults and conversions"
tool deepcopy-gen --go-header-file "$header" --output-file zz_generated.deepcopy.go "${internal[@]}" "${versioned[@]}" "${config[@]}"
tool defaulter-gen --go-header-file "$header" --output-file zz_generated.defaults.go "${versioned[@]}" "${config[@]}"
tool conversion-gen --go-header-file "$header" --output-file zz_generated.conversion.go "${versioned[@]}"

echo "==> Generate the registration examples"
go run ./hack/examples

echo "==> Generate the tables of metrics, rules and panels, and the dashboard of seeds"
go run ./hack/observability

echo "==> Generate the API reference"
for pair in registry/v1alpha3:registry mirror/v1alpha1:mirror config/v1alpha1:config; do
  tool crd-ref-docs --log-level ERROR --source-path="pkg/apis/${pair%%:*}" --config=hack/api-reference/config.yaml \
    --templates-dir=hack/api-reference/templates --renderer=markdown --output-path="docs/api-reference/${pair##*:}.md"
done
