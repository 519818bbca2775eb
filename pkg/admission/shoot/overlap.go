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
	cachePaths, wereCached, wereMirrored := byUpstream(cached), byUpstream(cachedBefore), byUpstream(mirroredBefore)

	var allErrs field.ErrorList
	for _, mirror := range mirrored {
		cachePath, ok := cachePaths[mirror.upstream]
		if !ok {
			continue
		}
		_, wasCached := wereCached[mirror.upstream]
		_, wasMirrored := wereMirrored[mirror.upstream]
		switch {
		case wasCached && wasMirrored:
		case wasMirrored:
			allErrs = append(allErrs, field.Invalid(cachePath, mirror.upstream,
				"an upstream cannot be both cached and mirrored; remove the mirror from the configuration of the extension registry-mirror"))
		default:
			allErrs = append(allErrs, field.Invalid(mirror.path, mirror.upstream,
				"an upstream cannot be both cached and mirrored; remove the cache from the configuration of the extension registry-cache"))
		}
	}
	return allErrs
}

// byUpstream returns the first field of each upstream.
func byUpstream(upstreams []located) map[string]*field.Path {
	paths := make(map[string]*field.Path, len(upstreams))
	for _, upstream := range slices.Backward(upstreams) {
		paths[upstream.upstream] = upstream.path
	}
	return paths
}
