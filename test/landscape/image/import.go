// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/parts"
)

// Ensure imports images of the named programs of this repository into the landscape's containerd and returns the names
// of the images by program. The images trust the landscape's CA.
func Ensure(ctx context.Context, l *landscape.Landscape, programs ...string) (map[string]string, error) {
	ca, _, err := l.CA()
	if err != nil {
		return nil, err
	}
	references := map[string]string{}
	for _, program := range programs {
		image, err := New(parts.OwnPath(l.Repository(), program), ca)
		if err != nil {
			return nil, err
		}
		if err := image.Import(ctx, l); err != nil {
			return nil, err
		}
		references[program] = image.Reference
	}
	return references, nil
}

// Import imports the image into the landscape's containerd if it is missing.
func (i *Image) Import(ctx context.Context, l *landscape.Landscape) error {
	known, err := l.Command(ctx, "ctr", "images", "list", "--quiet", "name=="+i.Reference).Output()
	if err != nil {
		return fmt.Errorf("look up %s in containerd: %w", i.Reference, err)
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
