#!/usr/bin/env bash
#
# SPDX-FileCopyrightText: The Larder Authors
#
# SPDX-License-Identifier: Apache-2.0

# Takes the screenshots of docs/status-page.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ $# -gt 0 ] || ! command -v chromium > /dev/null; then
  echo "usage: hack/screenshots.sh"
  echo "Runs a cache with some traffic and replaces the screenshots of its status page in docs/images."
  echo "It needs Chromium: apt-get install --no-install-recommends chromium fonts-dejavu"
  exit 2
fi
exec go run ./hack/screenshots docs/images
