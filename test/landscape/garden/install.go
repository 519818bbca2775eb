// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package garden

import (
	"context"
	"fmt"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/image"
	"github.com/larder-project/larder/test/landscape/parts"
	"github.com/larder-project/larder/test/landscape/progress"
)

// Install installs the components and the example Shoot of this repository, and ends when the Shoot is ready.
func Install(ctx context.Context, l *landscape.Landscape, log *progress.Log) error {
	c, err := Client(l)
	if err != nil {
		return err
	}

	done := log.Start("Prepare the garden for Shoots")
	if err := done(prepare(ctx, l, c)); err != nil {
		return err
	}

	done = log.Start("Import the images of the extension and of what it deploys, and of the admission component")
	images, err := image.Ensure(ctx, l, parts.Extension, parts.Admission, parts.CacheServer, parts.PullSecrets)
	if done(err) != nil {
		return err
	}

	done = log.Start("Install the charts")
	if err := done(installCharts(ctx, l, c, images)); err != nil {
		return err
	}

	done = log.Start("Push a private image to the upstream registries")
	if err := done(pushDemoImages(ctx, l)); err != nil {
		return err
	}

	done = log.Start("Create the example Shoot")
	return done(createShoot(ctx, l, c))
}

// prepare prepares the garden like an operator of Gardener before the first Shoot.
func prepare(ctx context.Context, l *landscape.Landscape, c client.Client) error {
	objects, err := decode(landscapeManifest)
	if err != nil {
		return err
	}
	registration, err := example(l, "controller-registration.yaml")
	if err != nil {
		return err
	}
	return applyAll(ctx, c, append(objects, registration...))
}

func installCharts(ctx context.Context, l *landscape.Landscape, c client.Client, images map[string]string) error {
	version, err := kubernetesVersion(l)
	if err != nil {
		return err
	}

	var installed []*unstructured.Unstructured
	for _, chart := range charts(l, images) {
		objects, err := chart.render(version)
		if err != nil {
			return err
		}
		objects = inNamespace(c.RESTMapper(), objects, chart.namespace)
		if err := applyAll(ctx, c, inCreationOrder(objects)); err != nil {
			return fmt.Errorf("chart %s: %w", chart.dir, err)
		}
		installed = append(installed, objects...)
	}
	if err := waitForDeployments(ctx, c, installed); err != nil {
		return err
	}
	return waitForWebhooks(ctx, c)
}

// waitForWebhooks waits until the extension and the admission component have registered their webhooks. Objects that
// are created earlier would bypass them.
func waitForWebhooks(ctx context.Context, c client.Client) error {
	for name, configuration := range map[string]client.Object{
		extensionName: &admissionregistrationv1.MutatingWebhookConfiguration{},
		admissionName: &admissionregistrationv1.ValidatingWebhookConfiguration{},
	} {
		if err := eventually(ctx, 3*time.Minute, func(ctx context.Context) error {
			return c.Get(ctx, client.ObjectKey{Name: name}, configuration)
		}); err != nil {
			return fmt.Errorf("wait for webhooks: %w", err)
		}
	}
	return nil
}

func kubernetesVersion(l *landscape.Landscape) (string, error) {
	config, err := l.RESTConfig()
	if err != nil {
		return "", err
	}
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return "", err
	}
	version, err := client.ServerVersion()
	if err != nil {
		return "", fmt.Errorf("read the version of Kubernetes: %w", err)
	}
	return version.GitVersion, nil
}

// createShoot creates the example Shoot with its credentials: one cache, for the registry that requires a token.
func createShoot(ctx context.Context, l *landscape.Landscape, c client.Client) error {
	username, password, err := l.Puller()
	if err != nil {
		return err
	}
	if err := EnsureCredentials(ctx, c, CredentialsName, username, password); err != nil {
		return err
	}
	shoot, err := Shoot(l, Cache(PrivateHost))
	if err != nil {
		return err
	}
	return ApplyShoot(ctx, c, shoot)
}
