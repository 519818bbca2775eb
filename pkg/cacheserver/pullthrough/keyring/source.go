// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"time"

	"github.com/larder-project/larder/pkg/credentials"
)

// Source reads credentials: from a Directory, a ConfigFile, or Static.
type Source interface {
	// Read returns the last complete contents and, if the source is incomplete now, an error beside them. If it returns
	// no contents, there must be no access, not even an anonymous one.
	Read() (*Contents, error)
}

// Contents are the credentials of a Source.
type Contents struct {
	// Wanted is the set to use.
	Wanted Set
	// Previous is the set to use until the upstream accepts Wanted; nil for none.
	Previous *Set
	// Written is when the files of the source were written, the zero time if it has none.
	Written time.Time
}

// Static is a credential that never changes. The zero value means anonymous access.
type Static credentials.Credential

// Read implements Source.
func (s Static) Read() (*Contents, error) {
	if s == (Static{}) {
		return &Contents{}, nil
	}
	return &Contents{Wanted: NewSet("", credentials.Credential(s))}, nil
}
