// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/upstream"
)

// names are the names of a cache, which must be unique.
type names struct {
	upstream string
	// resource is the name of all objects except the Service.
	resource string
	service  string
	// suffix is the serviceNameSuffix. If nil, the Service has the same name as the other objects.
	suffix *string
}

func namesOf(caches []registry.RegistryCache) []names {
	result := make([]names, len(caches))
	for i, cache := range caches {
		host := upstream.Upstream(cache.Upstream)
		result[i] = names{
			upstream: cache.Upstream,
			resource: host.ResourceName(),
			service:  host.ServiceName(cache.ServiceNameSuffix),
			suffix:   cache.ServiceNameSuffix,
		}
	}
	return result
}

// holders counts the upstreams of a configuration and groups them by the name of their Service.
type holders struct {
	upstreams map[string]int
	services  map[string]sets.Set[string]
}

func holdersOf(caches []names) holders {
	result := holders{upstreams: map[string]int{}, services: map[string]sets.Set[string]{}}
	for _, cache := range caches {
		result.upstreams[cache.upstream]++
		if result.services[cache.service] == nil {
			result.services[cache.service] = sets.New[string]()
		}
		result.services[cache.service].Insert(cache.upstream)
	}
	return result
}

// validateNames refuses caches that would share an upstream, the name of an object or the name of a Service, unless the
// old configuration has the same collision. It compares each cache with the first one that has the name.
func validateNames(caches, oldCaches []names, fldPath *field.Path) field.ErrorList {
	var (
		allErrs   field.ErrorList
		old       = holdersOf(oldCaches)
		upstreams = map[string]int{}
		resources = map[string]int{}
		services  = map[string]int{}
	)
	for i, cache := range caches {
		upstreamPath := fldPath.Index(i).Child("upstream")
		if upstreams[cache.upstream]++; upstreams[cache.upstream] > 1 {
			if upstreams[cache.upstream] > old.upstreams[cache.upstream] {
				allErrs = append(allErrs, field.Duplicate(upstreamPath, cache.upstream))
			}
			continue
		}

		if first, ok := resources[cache.resource]; ok {
			other := caches[first].upstream
			if old.upstreams[cache.upstream] == 0 || old.upstreams[other] == 0 {
				allErrs = append(allErrs, field.Invalid(upstreamPath, cache.upstream,
					fmt.Sprintf("its objects would have the same name %q as those of the upstream %q; remove one of the two", cache.resource, other)))
			}
			continue
		}
		resources[cache.resource] = i

		if first, ok := services[cache.service]; ok {
			if !old.services[cache.service].HasAll(cache.upstream, caches[first].upstream) {
				allErrs = append(allErrs, serviceCollision(caches, first, i, fldPath))
			}
			continue
		}
		services[cache.service] = i
	}
	return allErrs
}

// serviceCollision returns the error for two caches with the same Service. It points to the suffix to change; at least
// one of the caches has one.
func serviceCollision(caches []names, first, second int, fldPath *field.Path) *field.Error {
	suffixPath := func(i int) *field.Path { return fldPath.Index(i).Child("serviceNameSuffix") }
	if caches[first].suffix != nil && caches[second].suffix != nil {
		return field.Duplicate(suffixPath(second), *caches[second].suffix)
	}
	wrong, other := second, first
	if caches[second].suffix == nil {
		wrong, other = first, second
	}
	return field.Invalid(suffixPath(wrong), *caches[wrong].suffix,
		fmt.Sprintf("the Service would have the name %q, which is derived from the upstream %q; choose another suffix", caches[other].service, caches[other].upstream))
}

// validateNameHandover refuses updates that hand a name over from one upstream to another. The new cache would take
// over the volume of the removed one regardless of its own settings, and nodes that still use the address of the old
// Service would get the content of another registry.
func validateNameHandover(caches, oldCaches []names, fldPath *field.Path) field.ErrorList {
	var (
		allErrs      field.ErrorList
		kept         = byUpstream(caches, upstreamOf)
		old          = byUpstream(oldCaches, upstreamOf)
		oldResources = map[string][]names{}
		oldServices  = map[string][]names{}
	)
	for _, cache := range oldCaches {
		oldResources[cache.resource] = append(oldResources[cache.resource], cache)
		oldServices[cache.service] = append(oldServices[cache.service], cache)
	}

	for i, cache := range caches {
		before := old[cache.upstream]
		if before == nil {
			if other, ok := find(oldResources[cache.resource], func(other names) bool {
				// If the new configuration has both upstreams, validateNames reports the collision.
				return kept[other.upstream] == nil
			}); ok {
				allErrs = append(allErrs, field.Invalid(fldPath.Index(i).Child("upstream"), cache.upstream,
					fmt.Sprintf("this update removes the upstream %q, whose objects have the same name %q, so that this cache would get the old volume; first remove that upstream, then add this one in another update once the old cache is gone", other.upstream, other.resource)))
				continue
			}
		}
		if before != nil && before.service == cache.service {
			continue
		}
		if other, ok := find(oldServices[cache.service], func(other names) bool {
			after := kept[other.upstream]
			return other.upstream != cache.upstream && (after == nil || after.service != cache.service)
		}); ok {
			child, value := "upstream", cache.upstream
			if cache.suffix != nil {
				child, value = "serviceNameSuffix", *cache.suffix
			}
			allErrs = append(allErrs, field.Invalid(fldPath.Index(i).Child(child), value,
				fmt.Sprintf("the Service %q serves the upstream %q until this update; choose another serviceNameSuffix, or release the name in one update and reuse it in a later one", other.service, other.upstream)))
		}
	}
	return allErrs
}

func upstreamOf(cache *names) string { return cache.upstream }

// find returns the first cache that matches.
func find(caches []names, matches func(names) bool) (names, bool) {
	for _, cache := range caches {
		if matches(cache) {
			return cache, true
		}
	}
	return names{}, false
}
