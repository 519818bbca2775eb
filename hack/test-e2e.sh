#!/usr/bin/env bash
#
# SPDX-FileCopyrightText: The Larder Authors
#
# SPDX-License-Identifier: Apache-2.0

# Runs the journeys, on LANDSCAPES landscapes at once, because they mostly wait: for probes, grace periods and the
# kubelet. It starts the landscapes that are not running, and then also stops them. Arguments are those of ginkgo.
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
bin/build prometheus prometheus-config crane > /dev/null

# One takes 1.3 GiB of memory. More than three would keep two cores busy, and pulls waiting.
fitting=$(awk '/^MemAvailable/ { print int($2 / 1.5 / 1024 / 1024) }' /proc/meminfo)
landscapes=${LANDSCAPES:-$((fitting < 1 ? 1 : fitting < 3 ? fitting : 3))}

# The suite derives the directories of its processes in the same way. It runs in bin.
LANDSCAPE_DIR=$(realpath -m "${LANDSCAPE_DIR:-dev/landscape}")
export LANDSCAPE_DIR
dirs=("$LANDSCAPE_DIR")
for ((i = 2; i <= landscapes; i++)); do
  dirs+=("${dirs[0]}-$i")
done

started=()
stop() {
  local code=$?
  wait
  # What it removes is only of interest if that fails: the failures of journeys stay the end of the output.
  for dir in "${started[@]}"; do
    LANDSCAPE_DIR=$dir bin/landscape down > bin/down.log 2>&1 || { code=1 && cat bin/down.log >&2; }
  done
  exit "$code"
}
trap stop EXIT
for dir in "${dirs[@]}"; do
  if ! LANDSCAPE_DIR=$dir bin/landscape status > /dev/null 2>&1; then
    started+=("$dir")
  fi
done

echo "==> Start $landscapes landscapes; this is the progress of the first"
starts=()
for dir in "${dirs[@]:1}"; do
  LANDSCAPE_DIR=$dir bin/landscape up > "bin/$(basename "$dir").log" 2>&1 &
  starts+=("$!")
done
bin/landscape up
for i in "${!starts[@]}"; do
  wait "${starts[i]}" || { code=1 && cat "bin/$(basename "${dirs[i + 1]}").log" >&2; }
done
if [ "$code" -ne 0 ]; then
  exit "$code"
fi

echo "==> Journeys on $landscapes landscapes"
hack/go-test.sh -c -o bin/e2e.test ./test/e2e
go tool -modfile=hack/tools/go.mod ginkgo -v --timeout=2h "$@" --procs="$landscapes" bin/e2e.test
