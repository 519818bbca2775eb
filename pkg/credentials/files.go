// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Named is material with the name of the object that it comes from: that of a Secret, or [IdentityName].
type Named struct {
	Name     string
	Material Material
}

// identityPrefix distinguishes the names of WorkloadIdentities from those of Secrets, which contain no slash. Both may
// have the same name, and an owner may replace one by the other.
const identityPrefix = "WorkloadIdentity/"

// IdentityName returns the name of the material of a WorkloadIdentity.
func IdentityName(name string) string { return identityPrefix + name }

// Describe returns the kind and the quoted name of the object that the material with a name comes from.
func Describe(name string) string {
	if identity, ok := strings.CutPrefix(name, identityPrefix); ok {
		return fmt.Sprintf("WorkloadIdentity %q", identity)
	}
	return fmt.Sprintf("Secret %q", name)
}

// IsIdentity reports whether the material with a name comes from a WorkloadIdentity.
func IsIdentity(name string) bool { return strings.HasPrefix(name, identityPrefix) }

// Same reports whether two named materials are the same for a rotation, see [Material.Same].
func (n Named) Same(other Named) bool { return n.Name == other.Name && n.Material.Same(other.Material) }

// Size returns the length of the name and the material in bytes.
func (n Named) Size() int {
	size := 0
	for _, content := range n.files("") {
		size += len(content)
	}
	return size
}

// A cache server reads its credentials from a directory, one file for each key of a Secret. Beside the wanted
// credential, the directory may hold the previous one, which the server uses until the upstream accepts the wanted one.
//
// A user name and a password have a file each. All other material is in one file. The credentials for some repositories
// have the same files with a prefix, see [Prefix].
const (
	// UsernameKey is the key of the user name in a Secret.
	UsernameKey = "username"
	// PasswordKey is the key of the password in a Secret.
	PasswordKey = "password"
	// MaterialKey is the key of material other than a user name and a password. [Material.Encode] describes its value.
	MaterialKey = "material"
	// NameKey is the key of the name of a credential's Secret.
	NameKey = "name"
	// PreviousPrefix is the prefix of the keys of the previous credential.
	PreviousPrefix = "previous."

	// prefixHashLength is the length of the hash in a prefix, in hexadecimal digits.
	prefixHashLength = 10
)

// Prefix returns the prefix of the files of the credential for some repositories, which is empty for all repositories.
// It is derived from the repositories, not from the reference to the Secret: the prefix is part of the configuration of
// the server, which must not restart when an owner changes a reference.
func Prefix(repositories []string) string {
	if len(repositories) == 0 {
		return ""
	}
	sorted := slices.Sorted(slices.Values(repositories))
	sum := sha256.Sum256([]byte(strings.Join(sorted, "\n")))
	return "repositories-" + hex.EncodeToString(sum[:])[:prefixHashLength] + "."
}

// Files returns the files that a cache server reads the credential with the prefix from, by name. Previous may be nil.
func Files(prefix string, wanted Named, previous *Named) map[string][]byte {
	files := wanted.files(prefix)
	if previous != nil {
		maps.Copy(files, previous.files(prefix+PreviousPrefix))
	}
	return files
}

func (n Named) files(prefix string) map[string][]byte {
	files := map[string][]byte{prefix + NameKey: []byte(n.Name)}
	if c := n.Material.Credential; c.Username != "" && c.Password != "" {
		files[prefix+UsernameKey] = []byte(c.Username)
		files[prefix+PasswordKey] = []byte(c.Password)
	} else {
		files[prefix+MaterialKey] = n.Material.Encode()
	}
	return files
}

// FromFiles is the inverse of Files. It returns nil for an incomplete credential.
func FromFiles(prefix string, files map[string][]byte) (wanted, previous *Named) {
	return named(files, prefix), named(files, prefix+PreviousPrefix)
}

func named(files map[string][]byte, prefix string) *Named {
	n := &Named{Name: string(files[prefix+NameKey])}
	if data, ok := files[prefix+MaterialKey]; ok {
		material, err := DecodeMaterial(data)
		if err != nil {
			return nil
		}
		n.Material = material
	} else {
		c := Credential{Username: string(files[prefix+UsernameKey]), Password: string(files[prefix+PasswordKey])}
		if c.Username == "" || c.Password == "" {
			return nil
		}
		n.Material = Static(c)
	}
	if n.Name == "" {
		return nil
	}
	return n
}
