// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/sirupsen/logrus"
	"go.yaml.in/yaml/v2"

	cacheconfig "github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/credentials"
)

// environmentPrefix is the prefix of environment variables that override fields of a configuration.
const environmentPrefix = "REGISTRY_"

// Load reads a configuration file, applies the REGISTRY_* environment variables as Distribution does, and validates the
// result. Errors name fields and never contain a credential.
func Load(path string) (*configuration.Configuration, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	config, err := parse(content)
	if err != nil {
		return nil, fmt.Errorf("read configuration %s: %w", path, err)
	}
	if err := validate(config); err != nil {
		return nil, fmt.Errorf("invalid configuration %s: %w", path, err)
	}
	warnUnknown(content)
	return config, nil
}

// build converts a typed configuration and a credential to a validated configuration.
func build(described cacheconfig.Config, credential credentials.Credential) (*configuration.Configuration, error) {
	content, err := described.Marshal()
	if err != nil {
		return nil, err
	}
	config, err := parseAlone(content)
	if err != nil {
		return nil, fmt.Errorf("parse generated configuration: %w", err)
	}
	config.Proxy.Username, config.Proxy.Password = credential.Username, credential.Password
	if err := validate(config); err != nil {
		return nil, fmt.Errorf("invalid generated configuration: %w", err)
	}
	return config, nil
}

func parse(content []byte) (config *configuration.Configuration, err error) {
	defer func() {
		// The parser panics if the environment adds a second storage driver.
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%v", cause)
		}
	}()
	if len(bytes.TrimSpace(content)) == 0 {
		return nil, errors.New("the file is empty, see docs/cache-server.md for an example")
	}
	config, err = configuration.Parse(bytes.NewReader(content))
	if err != nil && strings.HasPrefix(err.Error(), "unsupported version") { // It has no type.
		return nil, fmt.Errorf("%w, set version: 0.1", err)
	}
	if err != nil {
		return nil, withoutValues(err)
	}
	return config, nil
}

// parseAlone parses without overrides from the environment. Variables with the same prefix can belong to other
// programs: REGISTRY_AUTH_FILE is Podman's.
func parseAlone(content []byte) (*configuration.Configuration, error) {
	for _, variable := range os.Environ() {
		if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, environmentPrefix) {
			_ = os.Unsetenv(name) // The name comes from the environment, so neither call can fail.
			defer func() { _ = os.Setenv(name, value) }()
		}
	}
	return parse(content)
}

// withoutValues removes values from the YAML library's messages about types: the library quotes their first characters,
// which can be those of a password.
func withoutValues(err error) error {
	var mismatch *yaml.TypeError
	if !errors.As(err, &mismatch) {
		return err
	}
	var messages []string
	for _, message := range mismatch.Errors {
		first, last := strings.Index(message, "`"), strings.LastIndex(message, "`")
		if first >= 0 && first < last {
			message = message[:first] + "a value" + message[last+1:]
		}
		messages = append(messages, message)
	}
	return errors.New(strings.Join(messages, "; "))
}

// warnUnknown warns about fields that Distribution's parser ignores; they may be misspelled.
func warnUnknown(content []byte) {
	var mismatch *yaml.TypeError
	if errors.As(yaml.UnmarshalStrict(content, &configuration.Configuration{}), &mismatch) {
		logrus.WithField("problems", withoutValues(mismatch).Error()).Warn("Ignoring unknown fields of the configuration")
	}
}
