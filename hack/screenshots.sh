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

version="$(< VERSION)"
export LARDER_CACHE_SERVER="$PWD/dev/bin/screenshots-registry-cache"
go build -ldflags "-X k8s.io/component-base/version.gitVersion=$version" -o "$LARDER_CACHE_SERVER" ./cmd/registry-cache-server
go build -o dev/bin/screenshots ./hack/screenshots

# The cache gets a small volume of its own, so that the pictures do not show the disk of this machine.
volume="$(mktemp -d)"
trap 'rmdir "$volume"' EXIT
TMPDIR="$volume" unshare --map-root-user --mount bash -euc \
  'mount -t tmpfs -o size=320m tmpfs "$TMPDIR" && exec dev/bin/screenshots docs/images'
