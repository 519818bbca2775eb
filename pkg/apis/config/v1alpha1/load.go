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

// Load reads the configuration from a YAML or JSON file and sets its defaults. Unknown and duplicate fields are errors.
func Load(filename string) (*Configuration, error) {
	data, err := os.ReadFile(filename)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	configuration, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("decode configuration in %s: %w", filename, err)
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
		return fmt.Errorf("healthCheckConfig.syncPeriod: must not be negative, is %s", period)
	}
	return nil
}
