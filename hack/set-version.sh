#!/usr/bin/env bash
#
# SPDX-FileCopyrightText: The Larder Authors
#
# SPDX-License-Identifier: Apache-2.0

# Sets the version of the product in all files: hack/set-version.sh v0.2.0
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

new=${1:?usage: hack/set-version.sh v0.2.0}
old=$(cat VERSION)
if ! [[ $new =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]]; then
  echo "invalid version $new, use one like v0.2.0" >&2
  exit 1
fi

# The versions of charts have no leading v.
old=${old#v}
find VERSION imagevector/images.yaml charts -type f \( -name VERSION -o -name '*.yaml' \) -print0 |
  xargs -0 sed -i "s/${old//./\\.}/${new#v}/g"
go run ./hack/examples
