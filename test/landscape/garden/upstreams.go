// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package garden

import (
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/gardenlet"
	"github.com/larder-project/larder/test/landscape/image"
	"github.com/larder-project/larder/test/landscape/parts"
	"github.com/larder-project/larder/test/landscape/upstream"
	"github.com/larder-project/larder/test/upstreamsim"
)

// The hosts of the upstream registries.
var (
	// PrivateHost is the registry that requires a token.
	PrivateHost = fmt.Sprintf("private.%s:%d", landscape.Domain, landscape.PrivatePort)
	// BasicHost is the registry that requires a user name and a password.
	BasicHost = fmt.Sprintf("basic.%s:%d", landscape.Domain, landscape.BasicPort)
)

// uniqueBytes is the size of the random layer that makes each image unique, so that no cache has it.
const uniqueBytes = 256 << 10

// EnsureCredentials creates an immutable Secret in the project's namespace if it does not exist.
func EnsureCredentials(ctx context.Context, c client.Client, name, username, password string) error {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: gardenlet.ProjectNamespace},
		Type:       corev1.SecretTypeOpaque,
		Immutable:  new(true),
		Data: map[string][]byte{
			"username": []byte(username),
			"password": []byte(password),
		},
	}
	if err := c.Create(ctx, secret); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create Secret %s: %w", client.ObjectKeyFromObject(secret), err)
	}
	return nil
}

// DemoRepository is the repository of the demo images in each registry.
const DemoRepository = "demo/hello"

// DemoImage returns an image of the demo program that differs from all earlier ones.
func DemoImage(l *landscape.Landscape) (v1.Image, error) {
	program, err := image.New(parts.OwnPath(l.Repository(), parts.Demo), nil)
	if err != nil {
		return nil, err
	}
	layer, err := random.Layer(uniqueBytes, types.DockerLayer)
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(program.Image, layer)
}

// PushDemo pushes an image of the demo program that differs from all earlier ones to one of the upstream registries.
func PushDemo(ctx context.Context, l *landscape.Landscape, reference string) error {
	unique, err := DemoImage(l)
	if err != nil {
		return err
	}
	return Push(ctx, l, reference, unique)
}

// Push pushes an image to one of the upstream registries.
func Push(ctx context.Context, l *landscape.Landscape, reference string, img v1.Image) error {
	username, password, err := l.Pusher()
	if err != nil {
		return err
	}
	ca, _, err := l.CA()
	if err != nil {
		return err
	}
	registry := upstream.Client{Account: upstreamsim.Account{Username: username, Password: password}, CA: ca, IP: l.IP()}
	return registry.Push(ctx, reference, img)
}

func pushDemoImages(ctx context.Context, l *landscape.Landscape) error {
	for _, host := range []string{PrivateHost, BasicHost} {
		if err := PushDemo(ctx, l, host+"/"+DemoRepository+":v1"); err != nil {
			return err
		}
	}
	return nil
}
