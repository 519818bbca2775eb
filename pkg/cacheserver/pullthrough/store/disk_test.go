// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"golang.org/x/sys/unix"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
)

// fullDisk is a Disk without free space.
type fullDisk struct{}

func (fullDisk) Create(string) (store.File, error) { return nil, unix.ENOSPC }

func (fullDisk) Space(string) (store.Space, error) { return store.Space{Total: 1 << 30}, nil }
