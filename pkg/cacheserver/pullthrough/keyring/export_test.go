// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring

// Signature is what tells states of the files apart.
func (f *Files) Signature() string { return f.signature() }
