#!/usr/bin/env bash
#
# SPDX-FileCopyrightText: The Larder Authors
#
# SPDX-License-Identifier: Apache-2.0

# Runs go test without what a run of all tests need not pay for: the linters vet
# already, and a test needs no debug information to name its lines. The compiler
# collects garbage that its exit would free: GOGC spares most of that, and is
# not for the tests themselves.
exec go test -toolexec "env GOGC=${GOGC:-400}" -vet=off -ldflags='-s -w' "$@"
