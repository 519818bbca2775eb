// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package ownersecret

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// JSONKeyUsername is the user name for which Google's registries expect the key file of a service account as the
// password.
const JSONKeyUsername = "_json_key"

// JSONKeyBase64Username is the user name for which they expect the key file in Base64.
const JSONKeyBase64Username = "_json_key_base64"

// serviceAccountType is the only type of key file that contains just a key. The other types contain commands to run, or
// URLs to send credentials to.
const serviceAccountType = "service_account"

var (
	serviceAccountFields = []string{
		"type", "project_id", "client_email", "universe_domain", "auth_uri", "auth_provider_x509_cert_url",
		"client_x509_cert_url", "client_id", "private_key_id", "private_key", "token_uri",
	}
	// requiredServiceAccountFields are the fields that authentication needs.
	requiredServiceAccountFields = []string{"client_email", "private_key"}
)

// checkServiceAccountKey returns the problem with the key file of a service account.
func checkServiceAccountKey(username, data string) string {
	fields, err := readFields(data)
	if err != nil {
		return fmt.Sprintf("with the user name %s, the password must be the JSON key of a Google service account, %s", username, err)
	}

	values := make(map[string]string, len(fields))
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(serviceAccountFields, name) {
			return fmt.Sprintf("a service account key must not have %s; remove it, the allowed fields are %s",
				describeField(name), strings.Join(serviceAccountFields, ", "))
		}
		var value *string
		if json.Unmarshal(fields[name], &value) != nil || value == nil {
			return fmt.Sprintf("the field %q of a service account key must be a string", name)
		}
		values[name] = *value
	}
	if values["type"] != serviceAccountType {
		return fmt.Sprintf("the type of a service account key must be %q, since other types can send credentials elsewhere", serviceAccountType)
	}
	for _, name := range requiredServiceAccountFields {
		if strings.TrimSpace(values[name]) == "" {
			return fmt.Sprintf("a service account key must have the field %s", name)
		}
	}
	return ""
}

// checkEncodedServiceAccountKey returns the problem with the key file of a service account in Base64.
func checkEncodedServiceAccountKey(data string) string {
	decoded, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		return fmt.Sprintf("with the user name %s, the password must be the JSON key of a Google service account in Base64 without line breaks (create it with `base64 -w0`)", JSONKeyBase64Username)
	}
	return checkServiceAccountKey(JSONKeyBase64Username, string(decoded))
}

// fieldName matches the names of fields in key files, and hardly any secret.
var fieldName = regexp.MustCompile(`^[A-Za-z]+(_[A-Za-z]+)*$`)

const maxFieldNameLength = 40

// describeField names a field, unless what stands in its place may be a secret.
func describeField(name string) string {
	if len(name) > maxFieldNameLength || !fieldName.MatchString(name) {
		return "a field with a name that is not shown here"
	}
	return fmt.Sprintf("the field %q", name)
}

// readFields reads a JSON object token by token: decoding into a struct or map would accept duplicate names and names in
// another case. Errors do not show the content.
func readFields(data string) (map[string]json.RawMessage, error) {
	if !json.Valid([]byte(data)) {
		return nil, errors.New("but is not valid JSON")
	}
	// The decoder cannot fail on valid JSON.
	decoder := json.NewDecoder(strings.NewReader(data))
	if start, _ := decoder.Token(); start != json.Delim('{') {
		return nil, errors.New("but is not a JSON object")
	}
	fields := map[string]json.RawMessage{}
	for decoder.More() {
		token, _ := decoder.Token()
		name, _ := token.(string)
		if _, ok := fields[name]; ok {
			return nil, fmt.Errorf("but has %s twice", describeField(name))
		}
		var value json.RawMessage
		_ = decoder.Decode(&value)
		fields[name] = value
	}
	return fields, nil
}
