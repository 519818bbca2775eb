#!/usr/bin/env bash
#
# SPDX-FileCopyrightText: The Larder Authors
#
# SPDX-License-Identifier: Apache-2.0

# Runs go test without unnecessary work: the linters include vet, and tests need no debug information to report their
# lines. The compiler collects garbage that its exit would free; GOGC saves most of that, and does not affect the tests.
exec go test -toolexec "env GOGC=${GOGC:-400}" -vet=off -ldflags='-s -w' "$@"
