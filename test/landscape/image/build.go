// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/larder-project/larder/test/landscape"
)

// Build builds the programs in the named folders of the repository, for
// example "cmd/registry-cache-server", into static binaries and returns their
// paths by the folders' names.
func Build(ctx context.Context, l *landscape.Landscape, folders ...string) (map[string]string, error) {
	dir := l.BinariesDir()
	args := append(make([]string, 0, 5+len(folders)),
		"build", "-trimpath", "-ldflags=-s -w", "-o", dir+string(filepath.Separator))
	paths := map[string]string{}
	for _, folder := range folders {
		args = append(args, "./"+folder)
		paths[folder] = filepath.Join(dir, path.Base(folder))
	}
	command := exec.CommandContext(ctx, "go", args...) // #nosec G204 -- folders of this repository.
	command.Dir = l.Repository()
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=-buildvcs=false")
	if output, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build %s: %w\n%s", strings.Join(folders, " "), err, output)
	}
	return paths, nil
}

// Ensure builds the programs in the named folders of the repository and makes
// an image of each known to the landscape's containerd. It returns the names of
// the images by the folders' names. The images trust the landscape's CA.
func Ensure(ctx context.Context, l *landscape.Landscape, folders ...string) (map[string]string, error) {
	binaries, err := Build(ctx, l, folders...)
	if err != nil {
		return nil, err
	}
	ca, _, err := l.CA()
	if err != nil {
		return nil, err
	}
	references := map[string]string{}
	for folder, binary := range binaries {
		image, err := New(binary, ca)
		if err != nil {
			return nil, err
		}
		if err := image.Import(ctx, l); err != nil {
			return nil, err
		}
		references[folder] = image.Reference
	}
	return references, nil
}

// Import gives the image to the landscape's containerd, unless it has it.
func (i *Image) Import(ctx context.Context, l *landscape.Landscape) error {
	known, err := l.Command(ctx, "ctr", "images", "list", "--quiet", "name=="+i.Reference).Output()
	if err != nil {
		return fmt.Errorf("ask containerd for %s: %w", i.Reference, err)
	}
	if strings.TrimSpace(string(known)) == i.Reference {
		return nil
	}
	tag, err := name.NewTag(i.Reference)
	if err != nil {
		return err
	}
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(tarball.Write(tag, i.Image, writer)) }()
	defer func() { _ = reader.Close() }()

	var output bytes.Buffer
	command := l.Command(ctx, "ctr", "images", "import", "-")
	command.Stdin = reader
	command.Stdout, command.Stderr = &output, &output
	if err := command.Run(); err != nil {
		return fmt.Errorf("import %s into containerd: %w\n%s", i.Reference, err, output.String())
	}
	return nil
}
