#!/usr/bin/env bash
#
# SPDX-FileCopyrightText: The Larder Authors
#
# SPDX-License-Identifier: Apache-2.0

# Tidies every module of the repository.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

git ls-files --cached --others --exclude-standard '*go.mod' | while read -r file; do
  echo "==> Tidy $file"
  (cd "$(dirname "$file")" && go mod tidy)
done
