// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package credentials

import "maps"

// Named is a credential with the name of its Secret.
type Named struct {
	Name string
	Credential
}

// A cache server reads its credential from a directory, one file for each key of a Secret. Beside the wanted
// credential, the directory may hold the previous one, which the server uses until the upstream accepts the wanted one.
const (
	// UsernameKey is the key of the user name in a Secret.
	UsernameKey = "username"
	// PasswordKey is the key of the password in a Secret.
	PasswordKey = "password"
	// NameKey is the key of the name of a credential's Secret.
	NameKey = "name"
	// PreviousPrefix is the prefix of the keys of the previous credential.
	PreviousPrefix = "previous."
)

// Files returns the files that a cache server reads its credential from, by name. Previous may be nil.
func Files(wanted Named, previous *Named) map[string][]byte {
	files := wanted.files("")
	if previous != nil {
		maps.Copy(files, previous.files(PreviousPrefix))
	}
	return files
}

func (n Named) files(prefix string) map[string][]byte {
	return map[string][]byte{
		prefix + NameKey:     []byte(n.Name),
		prefix + UsernameKey: []byte(n.Username),
		prefix + PasswordKey: []byte(n.Password),
	}
}

// FromFiles is the inverse of Files. It returns nil for an incomplete credential.
func FromFiles(files map[string][]byte) (wanted, previous *Named) {
	return named(files, ""), named(files, PreviousPrefix)
}

func named(files map[string][]byte, prefix string) *Named {
	n := &Named{
		Name:       string(files[prefix+NameKey]),
		Credential: Credential{Username: string(files[prefix+UsernameKey]), Password: string(files[prefix+PasswordKey])},
	}
	if n.Name == "" || n.Username == "" || n.Password == "" {
		return nil
	}
	return n
}
