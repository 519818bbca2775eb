// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"fmt"
	"slices"

	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	cri "k8s.io/cri-client/pkg"

	"github.com/larder-project/larder/test/landscape"
)

// Images is the image service of the node's containerd.
type Images struct {
	service internalapi.ImageManagerService
}

// NodeImages connects to the image service of the node's containerd.
func NodeImages(ctx context.Context, l *landscape.Landscape) (*Images, error) {
	endpoint, err := containerdEndpoint(l)
	if err != nil {
		return nil, err
	}
	service, err := imageService(ctx, endpoint)
	return &Images{service: service}, err
}

// Pull pulls an image like the kubelet, with the user name and password of an image pull secret, or without one if the
// user name is empty.
func (i *Images) Pull(ctx context.Context, image, username, password string) error {
	var auth *runtimeapi.AuthConfig
	if username != "" {
		auth = &runtimeapi.AuthConfig{Username: username, Password: password}
	}
	_, err := i.service.PullImage(ctx, &runtimeapi.ImageSpec{Image: image}, auth, nil)
	return err
}

// Remove removes an image and its content.
func (i *Images) Remove(ctx context.Context, image string) error {
	return i.service.RemoveImage(ctx, &runtimeapi.ImageSpec{Image: image})
}

// Has reports whether the node has an image of a repository.
func (i *Images) Has(ctx context.Context, repository string) (bool, error) {
	known, err := i.service.ListImages(ctx, nil)
	if err != nil {
		return false, fmt.Errorf("list images: %w", err)
	}
	return slices.ContainsFunc(known, func(image *runtimeapi.Image) bool { return ofRepository(image, repository) }), nil
}

func containerdEndpoint(l *landscape.Landscape) (string, error) {
	pid, err := l.FirstProcess()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("unix:///proc/%d/root%s", pid, landscape.ContainerdSocket), nil
}

func imageService(ctx context.Context, endpoint string) (internalapi.ImageManagerService, error) {
	images, err := cri.NewRemoteImageService(ctx, endpoint, criTimeout, nil, false)
	if err != nil {
		return nil, fmt.Errorf("connect to containerd's image service: %w", err)
	}
	return images, nil
}

func runtimeService(ctx context.Context, l *landscape.Landscape) (internalapi.RuntimeService, error) {
	endpoint, err := containerdEndpoint(l)
	if err != nil {
		return nil, err
	}
	service, err := cri.NewRemoteRuntimeService(ctx, endpoint, criTimeout, nil, false)
	if err != nil {
		return nil, fmt.Errorf("connect to containerd's runtime service: %w", err)
	}
	return service, nil
}
