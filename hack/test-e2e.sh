#!/usr/bin/env bash
#
# SPDX-FileCopyrightText: The Larder Authors
#
# SPDX-License-Identifier: Apache-2.0

# Runs the journeys on the landscape. It starts a landscape if none is running, and then also stops it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Exit code 3 means that this machine cannot run a landscape.
code=0
bin/build check || code=$?
if [ "$code" -eq 3 ]; then
  echo "Skipped the journeys on the landscape (test/e2e) for the reason above."
  exit 0
fi
if [ "$code" -ne 0 ]; then
  exit "$code"
fi
bin/build > /dev/null
bin/build prometheus prometheus-config > /dev/null
if ! bin/landscape status > /dev/null 2>&1; then
  trap 'bin/landscape down' EXIT
fi
bin/landscape up

echo "==> Journeys on the landscape"
hack/go-test.sh -count=1 -timeout 2h -v ./test/e2e "$@"
