#!/usr/bin/env bash
#
# SPDX-FileCopyrightText: The Larder Authors
#
# SPDX-License-Identifier: Apache-2.0

# Draws the dashboard of Shoots for docs/observability-results.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/dashboard-picture"

if [ $# -ne 4 ] || ! command -v chromium > /dev/null || ! command -v npm > /dev/null; then
  echo "usage: hack/dashboard-picture.sh PROMETHEUS START END SCRAPE_INTERVAL"
  echo "Draws the dashboard of Shoots with Perses, from the data of a Prometheus between two points in time, and replaces"
  echo "docs/images/dashboard.png. For example: hack/dashboard-picture.sh http://127.0.0.1:9090 -5min now 5s"
  echo "It needs Chromium and npm: apt-get install --no-install-recommends chromium fonts-dejavu npm"
  exit 2
fi

echo "==> Download Perses"
npm ci --no-audit --no-fund --legacy-peer-deps
echo "==> Draw the dashboard"
node main.mjs "$1" "$(date --date "$2" +%s)" "$(date --date "$3" +%s)" "$4" "$PWD/../../docs/images/dashboard.png"
