// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package image creates container images of this repository's static binaries, in one layer and without a container
// engine.
package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/larder-project/larder/test/landscape"
)

// nonroot is the user and group of images.
const nonroot = 65532

// Image is an image with its name in containerd.
type Image struct {
	v1.Image
	// Reference changes with the content.
	Reference string
}

// New returns an image of the static binary at the path. Its programs trust the certificates, which are PEM and may be
// empty.
func New(binary string, certificates []byte) (*Image, error) {
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		content, err := files(binary, certificates)
		return io.NopCloser(bytes.NewReader(content)), err
	})
	if err != nil {
		return nil, fmt.Errorf("create image of %s: %w", binary, err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config = v1.Config{
		Entrypoint: []string{"/" + filepath.Base(binary)},
		User:       fmt.Sprintf("%[1]d:%[1]d", nonroot),
		WorkingDir: "/",
		Env:        []string{"PATH=/"},
	}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return nil, err
	}
	id, err := image.ConfigName()
	if err != nil {
		return nil, err
	}
	return &Image{
		Image:     image,
		Reference: fmt.Sprintf("%s/%s:%s", landscape.Domain, filepath.Base(binary), id.Hex[:12]),
	}, nil
}

// files returns the archive of a layer. It is deterministic.
func files(binary string, certificates []byte) ([]byte, error) {
	program, err := os.ReadFile(binary) // #nosec G304 -- a binary that was just built.
	if err != nil {
		return nil, err
	}
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	for _, entry := range []struct {
		path    string
		mode    int64
		content []byte
	}{
		{path: "etc/", mode: 0o755},
		{path: "etc/passwd", mode: 0o644, content: fmt.Appendf(nil,
			"root:x:0:0:root:/:/sbin/nologin\nnonroot:x:%[1]d:%[1]d:nonroot:/:/sbin/nologin\n", nonroot)},
		{path: "etc/group", mode: 0o644, content: fmt.Appendf(nil, "root:x:0:\nnonroot:x:%d:\n", nonroot)},
		{path: "etc/ssl/", mode: 0o755},
		{path: "etc/ssl/certs/", mode: 0o755},
		{path: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, content: certificates},
		{path: "tmp/", mode: 0o1777},
		{path: filepath.Base(binary), mode: 0o755, content: program},
	} {
		header := &tar.Header{
			Name: entry.path, Mode: entry.mode, Size: int64(len(entry.content)),
			ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg,
		}
		if entry.content == nil && entry.path[len(entry.path)-1] == '/' {
			header.Typeflag = tar.TypeDir
		}
		if err := archive.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := archive.Write(entry.content); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}
