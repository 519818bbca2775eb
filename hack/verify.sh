#!/usr/bin/env bash
#
# SPDX-FileCopyrightText: The Larder Authors
#
# SPDX-License-Identifier: Apache-2.0

# Checks that modules are tidy, generated files are up to date, base images are pinned, linters pass, and no code with a
# known vulnerability is called. It compares with the working tree, so that it also works with uncommitted changes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

snapshot() {
  git ls-files --cached --others --exclude-standard -z | sort -z |
    while IFS= read -r -d '' file; do if [ -f "$file" ]; then sha256sum "$file"; fi; done
}

before=$(snapshot)
hack/tidy.sh
hack/generate.sh
after=$(snapshot)
if ! changes=$(diff <(echo "$before") <(echo "$after")); then
  echo "These files are out of date; run 'make tidy generate' and commit them:" >&2
  echo "$changes" | awk '{ print $3 }' | sort -u >&2
  exit 1
fi

echo "==> Base images"
if unpinned=$(grep -E '^(ARG (GO_IMAGE|BASE)=|FROM [^$]*/)' Dockerfile | grep -vE '@sha256:[0-9a-f]{64}$'); then
  echo "Base images in the Dockerfile need a tag and a digest: $unpinned" >&2
  exit 1
fi

echo "==> Charts"
for chart in charts/gardener-*/ charts/gardener-*/charts/*/; do
  go tool -modfile=hack/tools/go.mod helm lint --quiet "$chart"
done

echo "==> Lint"
go tool -modfile=hack/tools/lint/go.mod golangci-lint run
# A module of its own that no test compiles.
(cd test/bench/faults/puller && go vet ./...)

echo "==> Known vulnerabilities"
database=${GOVULNDB:-https://vuln.go.dev}
if curl --fail --silent --location --max-time 5 --output /dev/null "$database/index/db.json"; then
  go tool -modfile=hack/tools/vuln/go.mod govulncheck ./...
else
  echo "Skipped, because the database $database is not reachable within 5 s"
fi
