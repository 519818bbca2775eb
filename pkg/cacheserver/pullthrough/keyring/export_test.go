// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring

// Signature identifies the state of the files of a Source.
func Signature(source Source) string { return source.(*files).signature() }
