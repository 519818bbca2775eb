// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package ownersecret

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// JSONKeyUsername is the user name with which Google's registries accept the
// key file of a service account as the password.
const JSONKeyUsername = "_json_key"

// serviceAccountType is the only type of key file that holds nothing but a key.
// The others name commands to run, or URLs that credentials are sent to.
const serviceAccountType = "service_account"

var (
	serviceAccountFields = []string{
		"type", "project_id", "client_email", "universe_domain", "auth_uri", "auth_provider_x509_cert_url",
		"client_x509_cert_url", "client_id", "private_key_id", "private_key", "token_uri",
	}
	// requiredServiceAccountFields are the ones without which nobody can authenticate with the key.
	requiredServiceAccountFields = []string{"client_email", "private_key"}
)

// checkServiceAccountKey returns what is wrong with the key file of a service account.
func checkServiceAccountKey(data string) string {
	fields, err := readStringFields(data)
	if err != nil {
		return fmt.Sprintf("for the user name %s it must be the key of a Google service account in JSON, %s", JSONKeyUsername, err)
	}

	for name := range fields {
		if !slices.Contains(serviceAccountFields, name) {
			return fmt.Sprintf("a service account key must have no other fields than %s", strings.Join(serviceAccountFields, ", "))
		}
	}
	if fields["type"] != serviceAccountType {
		return fmt.Sprintf("the field type of a key must be %q, as other types can send credentials elsewhere", serviceAccountType)
	}
	for _, name := range requiredServiceAccountFields {
		if strings.TrimSpace(fields[name]) == "" {
			return fmt.Sprintf("a service account key must have the field %s", name)
		}
	}
	return ""
}

// readStringFields reads a JSON object of strings, token by token: decoding it
// into a struct or map would let duplicate names pass, and names in another
// case. No error shows what was read.
func readStringFields(data string) (map[string]string, error) {
	if !json.Valid([]byte(data)) {
		return nil, errors.New("but it isn't valid JSON")
	}
	// The decoder can't fail any more.
	decoder := json.NewDecoder(strings.NewReader(data))
	if start, _ := decoder.Token(); start != json.Delim('{') {
		return nil, errors.New("but it isn't a JSON object")
	}
	fields := map[string]string{}
	for decoder.More() {
		token, _ := decoder.Token()
		name, _ := token.(string)
		if _, ok := fields[name]; ok {
			return nil, errors.New("but it has a field more than once")
		}
		token, _ = decoder.Token()
		value, ok := token.(string)
		if !ok {
			return nil, errors.New("but it has a field that isn't a string")
		}
		fields[name] = value
	}
	return fields, nil
}
