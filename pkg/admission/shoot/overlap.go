// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package shoot

import (
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateOverlap refuses upstreams that have both a cache and a mirror: containerd has one configuration for each
// upstream, and the cache itself does not use mirrors. It reports the one of the two that the update adds.
func validateOverlap(caches, mirrors reviewer) field.ErrorList {
	cached, cachedBefore := caches.upstreams()
	mirrored, mirroredBefore := mirrors.upstreams()
	nowCached, wereCached, wereMirrored := byUpstream(cached), byUpstream(cachedBefore), byUpstream(mirroredBefore)

	var allErrs field.ErrorList
	for _, mirror := range mirrored {
		cache, ok := nowCached[mirror.upstream]
		if !ok {
			continue
		}
		before, wasCached := wereCached[mirror.upstream]
		_, wasMirrored := wereMirrored[mirror.upstream]
		switch {
		case wasCached && wasMirrored && cache.onlyForNodes && !before.onlyForNodes:
			// In a list with mirrors, containerd cannot present a certificate.
			allErrs = append(allErrs, field.Invalid(cache.path, mirror.upstream,
				"with access.mode Nodes, nodes would not use the cache beside a mirror; remove the mirror from the configuration of the extension registry-mirror, or use another mode"))
		case wasCached && wasMirrored:
		case wasMirrored:
			allErrs = append(allErrs, field.Invalid(cache.path, mirror.upstream,
				"an upstream cannot be both cached and mirrored; remove the mirror from the configuration of the extension registry-mirror"))
		default:
			allErrs = append(allErrs, field.Invalid(mirror.path, mirror.upstream,
				"an upstream cannot be both cached and mirrored; remove the cache from the configuration of the extension registry-cache"))
		}
	}
	return allErrs
}

// byUpstream returns the first entry of each upstream.
func byUpstream(upstreams []located) map[string]located {
	first := make(map[string]located, len(upstreams))
	for _, upstream := range slices.Backward(upstreams) {
		first[upstream.upstream] = upstream
	}
	return first
}
