// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/upstream"
)

// collision is a name that two caches of one configuration would share.
type collision struct {
	// first and second are the upstreams of the caches, name is what they share.
	// With them a collision is recognised in an older configuration.
	first, second, name string
}

func collisionOf(a, b *registry.RegistryCache, name string) collision {
	return collision{first: min(a.Upstream, b.Upstream), second: max(a.Upstream, b.Upstream), name: name}
}

// validateNames refuses caches that would share an upstream, an object's name
// or a Service's name, unless the old configuration has the same collision.
func validateNames(caches, oldCaches []registry.RegistryCache, fldPath *field.Path) field.ErrorList {
	known := map[collision]int{}
	visitCollisions(oldCaches, fldPath, func(collision collision, _ *field.Error) {
		known[collision]++
	})

	var allErrs field.ErrorList
	visitCollisions(caches, fldPath, func(collision collision, err *field.Error) {
		if known[collision] > 0 {
			known[collision]--
			return
		}
		allErrs = append(allErrs, err)
	})
	return allErrs
}

// visitCollisions calls visit for every collision, with the error that describes it.
func visitCollisions(caches []registry.RegistryCache, fldPath *field.Path, visit func(collision, *field.Error)) {
	for j := range caches {
		for i := range j {
			a, b, aPath, bPath := &caches[i], &caches[j], fldPath.Index(i), fldPath.Index(j)
			switch {
			case a.Upstream == b.Upstream:
				visit(collisionOf(a, b, b.Upstream), field.Duplicate(bPath.Child("upstream"), b.Upstream))
				continue
			case resourceName(a) == resourceName(b):
				visit(collisionOf(a, b, resourceName(b)), field.Invalid(bPath.Child("upstream"), b.Upstream,
					fmt.Sprintf("its objects would get the same name %q as those of the upstream %q; only one of the two can be cached", resourceName(b), a.Upstream)))
				continue
			}

			if a.ServiceNameSuffix != nil && ptr.Equal(a.ServiceNameSuffix, b.ServiceNameSuffix) {
				visit(collisionOf(a, b, serviceName(b)), field.Duplicate(bPath.Child("serviceNameSuffix"), *b.ServiceNameSuffix))
				continue
			}
			if a.ServiceNameSuffix != nil && serviceName(a) == resourceName(b) {
				visit(collisionOf(a, b, serviceName(a)), derivedNameError(a, b, aPath))
			}
			if b.ServiceNameSuffix != nil && serviceName(b) == resourceName(a) {
				visit(collisionOf(a, b, serviceName(b)), derivedNameError(b, a, bPath))
			}
		}
	}
}

func derivedNameError(cache, other *registry.RegistryCache, fldPath *field.Path) *field.Error {
	return field.Invalid(fldPath.Child("serviceNameSuffix"), *cache.ServiceNameSuffix,
		fmt.Sprintf("must not lead to the name %q, which is derived from the upstream %q; choose another suffix", resourceName(other), other.Upstream))
}

// validateNameHandover refuses to hand a name over from one upstream to another
// in one update. The new cache would take over the volume of the removed one,
// whatever its own settings say, and nodes that still know the old cache by its
// Service's address would get the content of another registry.
func validateNameHandover(caches, oldCaches []registry.RegistryCache, fldPath *field.Path) field.ErrorList {
	var (
		allErrs field.ErrorList
		kept    = byUpstream(caches)
		old     = byUpstream(oldCaches)
	)
	for i := range caches {
		cache := &caches[i]
		before := old[cache.Upstream]
		for j := range oldCaches {
			other := &oldCaches[j]
			if other.Upstream == cache.Upstream {
				continue
			}
			// If both upstreams have the name now, that is a collision already.
			after := kept[other.Upstream]
			if before == nil && after == nil && resourceName(cache) == resourceName(other) {
				allErrs = append(allErrs, field.Invalid(fldPath.Index(i).Child("upstream"), cache.Upstream,
					fmt.Sprintf("the objects of the upstream %q that this update removes have the same name %q, so that the old volume would be used on; remove the other one first, and add this one once it is gone", other.Upstream, resourceName(other))))
				continue
			}
			if serviceName(cache) != serviceName(other) ||
				before != nil && serviceName(before) == serviceName(cache) ||
				after != nil && serviceName(after) == serviceName(cache) {
				continue
			}
			child, value := "upstream", cache.Upstream
			if cache.ServiceNameSuffix != nil {
				child, value = "serviceNameSuffix", *cache.ServiceNameSuffix
			}
			allErrs = append(allErrs, field.Invalid(fldPath.Index(i).Child(child), value,
				fmt.Sprintf("the Service %q serves the upstream %q until this update; choose another serviceNameSuffix, or give the name up in one update and use it again in a later one", serviceName(other), other.Upstream)))
		}
	}
	return allErrs
}

func resourceName(cache *registry.RegistryCache) string {
	return upstream.Upstream(cache.Upstream).ResourceName()
}

func serviceName(cache *registry.RegistryCache) string {
	return upstream.Upstream(cache.Upstream).ServiceName(cache.ServiceNameSuffix)
}
