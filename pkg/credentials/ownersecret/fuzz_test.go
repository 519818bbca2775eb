// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package ownersecret_test

import (
	"strings"
	"testing"
)

// FuzzCredential checks that accepted credentials are kept byte for byte, and that no error shows a password.
func FuzzCredential(f *testing.F) {
	f.Add("john", "hunter2")
	f.Add("_json_key", `{"type":"service_account","client_email":"e","private_key":"k"}`)
	f.Add("_json_key", `{"type":"external_account","x":{"y":[1,"\u0000"]}}`)
	f.Add("jo:hn", " ")
	f.Fuzz(func(t *testing.T, username, password string) {
		credential, errs := extract(newSecret(username, password))
		if len(errs) == 0 {
			if credential.Username != username || credential.Password != password {
				t.Errorf("%q and %q became %q and %q", username, password, credential.Username, credential.Password)
			}
			return
		}
		// The mark distinguishes the password from the rest of the message.
		marked := "hunter2" + password
		_, errs = extract(newSecret(username, marked))
		for _, err := range errs {
			if strings.Contains(err.Error(), "hunter2") && !strings.Contains(username, "hunter2") {
				t.Errorf("the error shows the password: %s", err)
			}
		}
	})
}
