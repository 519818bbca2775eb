// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/larder-project/larder/test/landscape"
)

const criTimeout = 2 * time.Minute

// Forget removes all images of a repository from the node, with their content and the containers of deleted pods that
// still use them, so that the next pod pulls its image completely.
func Forget(ctx context.Context, l *landscape.Landscape, repository string) error {
	endpoint, err := containerdEndpoint(l)
	if err != nil {
		return err
	}
	images, err := imageService(ctx, endpoint)
	if err != nil {
		return err
	}
	containers, err := runtimeService(ctx, l)
	if err != nil {
		return err
	}

	// The kubelet also removes the containers of deleted pods. Meanwhile, removing them here fails.
	var problem error
	err = wait.PollUntilContextTimeout(ctx, time.Second, criTimeout, true, func(ctx context.Context) (bool, error) {
		problem = forget(ctx, images, containers, repository)
		return problem == nil, nil
	})
	if err != nil {
		return fmt.Errorf("remove %s from the node: %w", repository, errors.Join(problem, err))
	}
	return nil
}

func forget(ctx context.Context, images internalapi.ImageManagerService, containers internalapi.RuntimeService, repository string) error {
	known, err := images.ListImages(ctx, nil)
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	present, err := containers.ListContainers(ctx, nil)
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	for _, image := range known {
		if !ofRepository(image, repository) {
			continue
		}
		for _, container := range present {
			if container.ImageId != image.Id {
				continue
			}
			if err := containers.RemoveContainer(ctx, container.Id); err != nil {
				return fmt.Errorf("remove container: %w", err)
			}
		}
		if err := images.RemoveImage(ctx, &runtimeapi.ImageSpec{Image: image.Id}); err != nil {
			return fmt.Errorf("remove image: %w", err)
		}
	}
	return nil
}

// ofRepository reports whether an image was pulled from a repository, by tag or by digest.
func ofRepository(image *runtimeapi.Image, repository string) bool {
	return slices.ContainsFunc(image.RepoTags, func(tag string) bool { return strings.HasPrefix(tag, repository+":") }) ||
		slices.ContainsFunc(image.RepoDigests, func(digest string) bool { return strings.HasPrefix(digest, repository+"@") })
}
