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

// environmentPrefix begins the names of variables that override a configuration.
const environmentPrefix = "REGISTRY_"

// Load reads a configuration file and the REGISTRY_* variables of the environment, as Distribution does, and validates
// the result. Its errors name fields and never show a credential.
func Load(path string) (*configuration.Configuration, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	config, err := parse(content)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration %s: %w", path, err)
	}
	if err := validate(config); err != nil {
		return nil, fmt.Errorf("the configuration %s is not valid: %w", path, err)
	}
	warnUnknown(content)
	return config, nil
}

// build converts a typed configuration and a credential to a validated configuration, as Load does a file.
func build(described cacheconfig.Config, credential credentials.Credential) (*configuration.Configuration, error) {
	content, err := described.Marshal()
	if err != nil {
		return nil, fmt.Errorf("describing the cache: %w", err)
	}
	config, err := parseAlone(content)
	if err != nil {
		return nil, fmt.Errorf("describing the cache: %w", err)
	}
	config.Proxy.Username, config.Proxy.Password = credential.Username, credential.Password
	if err := validate(config); err != nil {
		return nil, fmt.Errorf("describing the cache: %w", err)
	}
	return config, nil
}

func parse(content []byte) (config *configuration.Configuration, err error) {
	defer func() {
		// The parser panics when the environment adds a second storage driver.
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%v", cause)
		}
	}()
	config, err = configuration.Parse(bytes.NewReader(content))
	if err != nil {
		return nil, withoutValues(err)
	}
	return config, nil
}

// parseAlone parses without the environment's overrides. People set variables of that prefix for other programs:
// REGISTRY_AUTH_FILE is Podman's.
func parseAlone(content []byte) (*configuration.Configuration, error) {
	for _, variable := range os.Environ() {
		if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, environmentPrefix) {
			_ = os.Unsetenv(name) // It exists, so neither of the two can fail.
			defer func() { _ = os.Setenv(name, value) }()
		}
	}
	return parse(content)
}

// withoutValues takes the values out of the YAML library's messages about types: it quotes their first characters,
// and they may be those of a password.
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

// warnUnknown names the fields of the file that Distribution's parser skips, which a misspelled one would be.
func warnUnknown(content []byte) {
	var mismatch *yaml.TypeError
	if errors.As(yaml.UnmarshalStrict(content, &configuration.Configuration{}), &mismatch) {
		logrus.WithField("problems", withoutValues(mismatch).Error()).Warn("The configuration has parts that are not understood, they are ignored")
	}
}
