#!/usr/bin/env bash
#
# SPDX-FileCopyrightText: The Larder Authors
#
# SPDX-License-Identifier: Apache-2.0

# Runs the journeys on the landscape. A landscape that was running before is
# left running, one that was started for the tests is taken down again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# 3 is the program's way to say that this machine cannot run a landscape.
code=0
bin/build check || code=$?
if [ "$code" -eq 3 ]; then
  echo "Left out: the journeys on the landscape (test/e2e), for the reason above."
  exit 0
fi
if [ "$code" -ne 0 ]; then
  exit "$code"
fi
bin/build > /dev/null
if ! bin/landscape status > /dev/null 2>&1; then
  trap 'bin/landscape down' EXIT
fi
bin/landscape up

echo "==> Journeys on the landscape"
hack/go-test.sh -count=1 -timeout 2h -v ./test/e2e "$@"
