#!/usr/bin/env bash
#
# SPDX-FileCopyrightText: The Larder Authors
#
# SPDX-License-Identifier: Apache-2.0

# Runs each fuzz target for the given time: hack/fuzz.sh 30s
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

grep -rHoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' pkg | while IFS=: read -r file function; do
  target=${function#func }
  echo "==> Fuzz $target in $(dirname "$file") for $1"
  go test -run '^$' -fuzz "^$target\$" -fuzztime "$1" "./$(dirname "$file")"
done
