// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	cri "k8s.io/cri-client/pkg"

	"github.com/larder-project/larder/test/landscape"
)

const criTimeout = 2 * time.Minute

// Forget makes the node forget all images of a repository, with all their content and whatever containers of deleted
// pods still hold on to it, so that the next pod pulls its image from the first byte to the last.
func Forget(ctx context.Context, l *landscape.Landscape, repository string) error {
	pid, err := l.FirstProcess()
	if err != nil {
		return err
	}
	endpoint := fmt.Sprintf("unix:///proc/%d/root%s", pid, landscape.ContainerdSocket)
	images, err := cri.NewRemoteImageService(ctx, endpoint, criTimeout, nil, false)
	if err != nil {
		return fmt.Errorf("could not reach containerd's image service: %w", err)
	}
	containers, err := cri.NewRemoteRuntimeService(ctx, endpoint, criTimeout, nil, false)
	if err != nil {
		return fmt.Errorf("could not reach containerd's runtime service: %w", err)
	}

	known, err := images.ListImages(ctx, nil)
	if err != nil {
		return fmt.Errorf("could not list images: %w", err)
	}
	running, err := containers.ListContainers(ctx, nil)
	if err != nil {
		return fmt.Errorf("could not list containers: %w", err)
	}
	for _, image := range known {
		if !ofRepository(image, repository) {
			continue
		}
		for _, container := range running {
			if container.ImageId != image.Id {
				continue
			}
			if err := containers.RemoveContainer(ctx, container.Id); err != nil {
				return fmt.Errorf("could not remove a container of %s: %w", repository, err)
			}
		}
		if err := images.RemoveImage(ctx, &runtimeapi.ImageSpec{Image: image.Id}); err != nil {
			return fmt.Errorf("could not remove an image of %s: %w", repository, err)
		}
	}
	return nil
}

func ofRepository(image *runtimeapi.Image, repository string) bool {
	return slices.ContainsFunc(image.RepoTags, func(tag string) bool { return strings.HasPrefix(tag, repository+":") })
}
