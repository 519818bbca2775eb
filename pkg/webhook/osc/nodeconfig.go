// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package osc

import (
	"cmp"
	"encoding/base64"
	"slices"
	"strings"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"

	"github.com/larder-project/larder/pkg/apis/mirror"
	"github.com/larder-project/larder/pkg/apis/registry"
)

const (
	// certificatesDirectory is the directory of containerd's registries on the nodes.
	certificatesDirectory = "/etc/containerd/certs.d/"
	// filePermissions make files readable for all users of the node.
	filePermissions uint32 = 0o644
	// secretPermissions make files readable only for containerd, which runs as root.
	secretPermissions uint32 = 0o600
	// scriptPermissions make scripts executable.
	scriptPermissions uint32 = 0o755
)

// nodeConfig is the configuration that an extension adds to a node.
type nodeConfig struct {
	// registries are sorted by upstream, which is unique among them.
	registries []extensionsv1alpha1.RegistryConfig
	// connections are how containerd connects to caches, by upstream.
	connections map[string]connection
	// files are the files with the CA certificates of the registries, and with client certificates.
	files []extensionsv1alpha1.File
	contributor
	// other is the other extension of this project.
	other contributor
}

// contributor is an extension of this project that adds hosts to registries.
type contributor struct {
	// annotation is the annotation that records what the extension added.
	annotation string
	// ownsFile reports whether only this extension writes a file with the path.
	ownsFile func(path string) bool
	// caches is true if the hosts are caches. They come before mirrors. Besides, no other extension adds their URLs, which are
	// addresses of Services in the Shoot; the URLs of mirrors are whatever the owner wrote.
	caches bool
}

var (
	cachesContributor = contributor{
		annotation: registry.SharedRegistriesAnnotation,
		ownsFile:   func(path string) bool { return path == caBundlePath || path == clientPath || isHostsFile(path) },
		caches:     true,
	}
	mirrorsContributor = contributor{
		annotation: mirror.SharedRegistriesAnnotation,
		ownsFile:   func(path string) bool { return strings.HasPrefix(path, mirrorCAPrefix) },
	}
)

// addFile adds a file, unless there is one with its path.
func (c *nodeConfig) addFile(path string, permissions uint32, content []byte) {
	if slices.ContainsFunc(c.files, func(file extensionsv1alpha1.File) bool { return file.Path == path }) {
		return
	}
	c.files = append(c.files, newFile(path, permissions, content))
}

func newFile(path string, permissions uint32, content []byte) extensionsv1alpha1.File {
	return extensionsv1alpha1.File{
		Path:        path,
		Permissions: new(permissions),
		Content: extensionsv1alpha1.FileContent{
			Inline: &extensionsv1alpha1.FileContentInline{
				Encoding: string(extensionsv1alpha1.B64FileCodecID),
				Data:     base64.StdEncoding.EncodeToString(content),
			},
		},
	}
}

// sort makes the configuration independent of the order of its input, apart from the order of hosts.
func (c *nodeConfig) sort() {
	slices.SortStableFunc(c.registries, func(a, b extensionsv1alpha1.RegistryConfig) int { return cmp.Compare(a.Upstream, b.Upstream) })
	slices.SortFunc(c.files, func(a, b extensionsv1alpha1.File) int { return cmp.Compare(a.Path, b.Path) })
}

// addTo adds the configuration to an OperatingSystemConfig. It first removes what the extension added before, so that
// the result does not depend on earlier requests.
func (c nodeConfig) addTo(osc *extensionsv1alpha1.OperatingSystemConfig) error {
	own, err := c.addRegistries(osc)
	if err != nil {
		return err
	}
	units, hostsFiles := own.all()
	// The certificates come first: the node agent writes files in this order.
	files := slices.Concat(c.files, hostsFiles)
	for _, file := range files {
		osc.Spec.Files = replaceOrAppend(osc.Spec.Files, file)
	}
	osc.Spec.Files = slices.DeleteFunc(osc.Spec.Files, func(file extensionsv1alpha1.File) bool {
		return c.ownsFile(file.Path) && !slices.ContainsFunc(files, func(own extensionsv1alpha1.File) bool { return own.Path == file.Path })
	})
	if c.caches {
		setUnits(osc, units)
	}
	return nil
}

// replaceOrAppend replaces the first file with the same path and removes further ones, or appends the file.
func replaceOrAppend(files []extensionsv1alpha1.File, file extensionsv1alpha1.File) []extensionsv1alpha1.File {
	same := func(existing extensionsv1alpha1.File) bool { return existing.Path == file.Path }
	first := slices.IndexFunc(files, same)
	if first < 0 {
		return append(files, file)
	}
	files[first] = file
	return append(files[:first+1], slices.DeleteFunc(files[first+1:], same)...)
}
