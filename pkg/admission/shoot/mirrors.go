// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package shoot

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/admission/usage"
	"github.com/larder-project/larder/pkg/apis/mirror"
	"github.com/larder-project/larder/pkg/apis/mirror/validation"
	"github.com/larder-project/larder/pkg/credentials/ownersecret"
	"github.com/larder-project/larder/pkg/upstream"
)

const (
	resolveWarning = "mirror %s: with resolve, it decides which image a tag means, and is asked for private images first; " +
		"omit resolve if it does not know private repositories"
	onlyResolveWarning = "mirror %s: the capability resolve has no effect without pull; use both, or only pull"
	plainMirrorWarning = "mirror %s: since the URL begins with http://, others can read the image pull secrets that nodes send, " +
		"and with resolve replace images; use https://"
	plainCAWarning = "mirror %s: with a CA bundle, nodes try HTTPS first although the URL begins with http://; " +
		"use https://, or remove caBundleSecretReferenceName"
	rootWarning = "mirror %s: overridePath without a path in the URL omits /v2, where registries have their API; " +
		"add the path, or remove overridePath"
	serviceWarning = "mirror %s: nodes usually cannot resolve the names of Services; " +
		"use a name that is known outside of the cluster, or an IP address"
	selfWarning = "mirror %s: this is the upstream itself, which nodes use without a mirror"
)

// newMirrors returns the rules of the extension registry-mirror.
func newMirrors() (*rules[mirror.MirrorConfig], error) {
	extension, err := usage.Mirrors()
	if err != nil {
		return nil, err
	}
	return &rules[mirror.MirrorConfig]{
		Extension:      extension,
		kind:           "MirrorConfig",
		items:          "mirrors",
		validateCount:  validation.ValidateCount,
		validateUpdate: validation.ValidateMirrorConfigUpdate,
		validateContent: func(secret *corev1.Secret, references []usage.Reference) field.ErrorList {
			problems := ownersecret.ValidateCABundle(secret, time.Now(), nil)
			allErrs := make(field.ErrorList, 0, len(problems)*len(references))
			for _, reference := range references {
				allErrs = append(allErrs, errorsAt(reference.Path, problems)...)
			}
			return allErrs
		},
		upstreams: func(config *mirror.MirrorConfig) []string {
			upstreams := make([]string, len(config.Mirrors))
			for i, m := range config.Mirrors {
				upstreams[i] = m.Upstream
			}
			return upstreams
		},
		warnings: []warning[mirror.MirrorConfig]{
			{format: resolveWarning, subjects: hostsThat(resolves)},
			{format: onlyResolveWarning, subjects: hostsThat(resolvesWithoutPull)},
			{format: plainMirrorWarning, subjects: hostsThat(isPlain)},
			{format: plainCAWarning, subjects: hostsThat(isPlainWithCA)},
			{format: rootWarning, subjects: hostsThat(hasNoAPIPath)},
			{format: serviceWarning, subjects: hostsThat(isService)},
			{format: selfWarning, subjects: hostsThat(isUpstream)},
		},
		texts: texts{
			content:    "at least one mirror",
			workerless: "mirrors are for worker nodes",
		},
	}, nil
}

// hostsThat returns the hosts that match. A host of several upstreams counts once.
func hostsThat(match func(upstream.Upstream, *mirror.Host) bool) func(*usage.Usage[mirror.MirrorConfig]) sets.Set[string] {
	return func(use *usage.Usage[mirror.MirrorConfig]) sets.Set[string] {
		hosts := sets.New[string]()
		for _, m := range use.Config.Mirrors {
			for i := range m.Hosts {
				if match(upstream.Upstream(m.Upstream), &m.Hosts[i]) {
					hosts.Insert(m.Hosts[i].Host)
				}
			}
		}
		return hosts
	}
}

// resolves reports whether nodes use a mirror to resolve tags, for which containerd requires both capabilities.
func resolves(_ upstream.Upstream, host *mirror.Host) bool {
	return slices.Contains(host.Capabilities, mirror.Resolve) && slices.Contains(host.Capabilities, mirror.Pull)
}

func resolvesWithoutPull(_ upstream.Upstream, host *mirror.Host) bool {
	return slices.Contains(host.Capabilities, mirror.Resolve) && !slices.Contains(host.Capabilities, mirror.Pull)
}

func isPlain(_ upstream.Upstream, host *mirror.Host) bool {
	return strings.HasPrefix(host.Host, "http://")
}

// isPlainWithCA reports whether a mirror has a CA bundle that its URL does not need. Containerd tries HTTPS then,
// unless the URL has the port 80.
func isPlainWithCA(_ upstream.Upstream, host *mirror.Host) bool {
	return strings.HasPrefix(host.Host, "http://") && host.CABundleSecretReferenceName != nil
}

// hasNoAPIPath reports whether nodes send requests without the path /v2, which every registry has.
func hasNoAPIPath(_ upstream.Upstream, host *mirror.Host) bool {
	url, err := upstream.ParseMirrorURL(host.Host)
	return err == nil && url.Path == "" && ptr.Deref(host.OverridePath, false)
}

// isService reports whether the host is the name of a Service, which only the DNS of the cluster knows.
func isService(_ upstream.Upstream, host *mirror.Host) bool {
	url, err := upstream.ParseMirrorURL(host.Host)
	return err == nil && (strings.HasSuffix(url.Hostname, ".svc") || strings.HasSuffix(url.Hostname, ".cluster.local"))
}

func isUpstream(of upstream.Upstream, host *mirror.Host) bool {
	url, err := upstream.ParseMirrorURL(host.Host)
	own, ownErr := upstream.ParseMirrorURL(of.DefaultRemoteURL())
	return err == nil && ownErr == nil && url.Key() == own.Key()
}
