// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
)

// Load reads the configuration from a file, in YAML or JSON. Unknown and
// duplicate fields are errors; what the file leaves out has its defaults.
func Load(filename string) (*Configuration, error) {
	data, err := os.ReadFile(filename)
	if err != nil {
		return nil, fmt.Errorf("could not read the configuration: %w", err)
	}
	configuration, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("could not decode the configuration in %s: %w", filename, err)
	}
	return configuration, nil
}

func decode(data []byte) (*Configuration, error) {
	scheme := runtime.NewScheme()
	if err := AddToScheme(scheme); err != nil {
		return nil, err
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	object, gvk, err := decoder.Decode(data, nil, nil)
	if err != nil {
		return nil, err
	}
	configuration, ok := object.(*Configuration)
	if !ok {
		return nil, fmt.Errorf("kind %s is not Configuration", gvk.Kind)
	}
	scheme.Default(configuration)
	return configuration, validate(configuration)
}

func validate(configuration *Configuration) error {
	if period := configuration.HealthCheckConfig.SyncPeriod.Duration; period < 0 {
		return fmt.Errorf("healthCheckConfig.syncPeriod: %s is not a positive duration", period)
	}
	return nil
}
