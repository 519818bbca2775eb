// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"reflect"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/apis/registry"
)

func TestRegistry(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Registry API Suite")
}

// setReferences sets each field that references an entry of spec.resources to its own path, and returns the paths.
// Repository credentials are no connections.
func setReferences(value reflect.Value, path string) []string {
	var paths []string
	for i := range value.NumField() {
		name, child := value.Type().Field(i).Name, value.Field(i)
		switch {
		case strings.HasSuffix(name, "SecretReferenceName") && child.Type() == reflect.TypeFor[*string]():
			child.Set(reflect.ValueOf(new(path + name)))
			paths = append(paths, path+name)
		case child.Kind() == reflect.Pointer && child.Type().Elem().Kind() == reflect.Struct && child.CanSet() &&
			child.Type().Elem().PkgPath() == reflect.TypeFor[registry.RegistryCache]().PkgPath():
			child.Set(reflect.New(child.Type().Elem()))
			paths = append(paths, setReferences(child.Elem(), path+name+".")...)
		}
	}
	return paths
}

var _ = Describe("ConnectionReferences", func() {
	It("has all references to Secrets but the credential, with their paths", func() {
		cache := &registry.RegistryCache{}
		paths := setReferences(reflect.ValueOf(cache).Elem(), "")
		Expect(paths).To(ContainElement("SecretReferenceName"))
		var found []string
		for _, reference := range cache.ConnectionReferences() {
			found = append(found, reference.Entry)
			Expect(reference.Purpose.Path(nil).String()).To(MatchRegexp("(?i)^" + reference.Entry + "$"))
		}
		Expect(append(found, "SecretReferenceName")).To(ConsistOf(paths))
	})

	It("omits what a cache does not reference", func() {
		Expect((&registry.RegistryCache{Proxy: &registry.Proxy{}}).ConnectionReferences()).To(BeEmpty())
	})
})
