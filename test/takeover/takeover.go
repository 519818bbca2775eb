// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package takeover contains what another implementation of the extensions registry-cache and registry-mirror leaves when
// a landscape switches to this one: the objects of a cache for docker.io, and the configuration of the nodes for it and
// for mirrors. It follows the names and forms that both implementations share.
package takeover

import (
	"bufio"
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"strings"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

//go:embed testdata
var testdata embed.FS

// Services returns the objects of the ManagedResource with the Services.
func Services() ([]client.Object, error) { return objects("services.yaml") }

// Caches returns the other objects in the Shoot.
func Caches() ([]client.Object, error) { return objects("caches.yaml") }

// MirrorConfig returns the providerConfig of the extension registry-mirror in JSON. The entry mirror-ca of the Shoot's
// spec.resources must reference a Secret with a CA bundle.
func MirrorConfig() ([]byte, error) {
	return document("mirrorconfig.yaml")
}

// Status returns the provider status of the Extension registry-cache in JSON. The address is the cluster IP of the
// Service, and the Secret is the one with the CA bundle of the caches.
func Status(address, caSecret string) ([]byte, error) {
	return document("status.yaml", "ADDRESS", address, "CA_SECRET", caSecret)
}

// OperatingSystemConfig returns the OperatingSystemConfig with everything that the webhooks add. The CA bundles are
// encoded in Base64.
func OperatingSystemConfig(address, cachesCA, mirrorCA string) (*extensionsv1alpha1.OperatingSystemConfig, error) {
	data, err := document("operatingsystemconfig.yaml", "ADDRESS", address, "CACHES_CA", cachesCA, "MIRROR_CA", mirrorCA)
	if err != nil {
		return nil, err
	}
	osc := &extensionsv1alpha1.OperatingSystemConfig{}
	if err := yaml.UnmarshalStrict(data, osc); err != nil {
		return nil, fmt.Errorf("decode OperatingSystemConfig: %w", err)
	}
	return osc, nil
}

func document(name string, replacements ...string) ([]byte, error) {
	data, err := testdata.ReadFile("testdata/" + name)
	if err != nil {
		return nil, err
	}
	return yaml.YAMLToJSON([]byte(strings.NewReplacer(replacements...).Replace(string(data))))
}

func objects(name string) ([]client.Object, error) {
	data, err := testdata.ReadFile("testdata/" + name)
	if err != nil {
		return nil, err
	}
	var all []client.Object
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		decoded, _, err := kubernetes.ShootCodec.UniversalDeserializer().Decode(document, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("decode object of %s: %w", name, err)
		}
		object, ok := decoded.(client.Object)
		if !ok {
			return nil, fmt.Errorf("unexpected object of type %T in %s", decoded, name)
		}
		all = append(all, object)
	}
}
