// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package garden sets up a Gardener API server that accepts Shoots with the extension, for tests and benchmarks of the
// admission component.
package garden

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	securityv1alpha1 "github.com/gardener/gardener/pkg/apis/security/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// provider is the type of infrastructure and the name of all its objects.
	provider = "local"
	// credentials is the name of the credentials for the infrastructure.
	credentials = "provider"
)

//go:embed garden.yaml
var manifests []byte

// Prepare creates the objects that all projects need.
func Prepare(ctx context.Context, c client.Client) error {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := create(ctx, c, object); err != nil {
			return err
		}
	}
}

// CreateProject creates a project and returns its namespace.
func CreateProject(ctx context.Context, c client.Client, name string) (string, error) {
	namespace := "garden-" + name
	for _, object := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{
			"gardener.cloud/role":         "project",
			"project.gardener.cloud/name": name,
		}}},
		&gardencorev1beta1.Project{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       gardencorev1beta1.ProjectSpec{Namespace: new(namespace)},
		},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: credentials}},
		&securityv1alpha1.CredentialsBinding{
			ObjectMeta:     metav1.ObjectMeta{Namespace: namespace, Name: credentials},
			Provider:       securityv1alpha1.CredentialsBindingProvider{Type: provider},
			CredentialsRef: corev1.ObjectReference{APIVersion: "v1", Kind: "Secret", Namespace: namespace, Name: credentials},
		},
	} {
		if err := create(ctx, c, object); err != nil {
			return "", err
		}
	}
	return namespace, nil
}

// create retries for a while, because gardener-apiserver's admission plugins notice earlier objects with a delay.
func create(ctx context.Context, c client.Client, object client.Object) error {
	var lastErr error
	if err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 3*time.Minute, true, func(ctx context.Context) (bool, error) {
		lastErr = c.Create(ctx, object)
		return lastErr == nil, nil
	}); err != nil {
		return fmt.Errorf("create %T %s: %w", object, client.ObjectKeyFromObject(object), lastErr)
	}
	return nil
}

// NewShoot returns a valid Shoot, except for its extension, which has no configuration yet.
func NewShoot(namespace string) *gardencorev1beta1.Shoot {
	return &gardencorev1beta1.Shoot{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "s-"},
		Spec: gardencorev1beta1.ShootSpec{
			CloudProfile:           &gardencorev1beta1.CloudProfileReference{Name: provider},
			Region:                 provider,
			CredentialsBindingName: new(credentials),
			Kubernetes:             gardencorev1beta1.Kubernetes{Version: "1.36.4"},
			Networking:             &gardencorev1beta1.Networking{Type: new("calico"), Nodes: new("10.10.0.0/16")},
			Provider: gardencorev1beta1.Provider{
				Type: provider,
				Workers: []gardencorev1beta1.Worker{{
					Name: "worker", Minimum: 1, Maximum: 1,
					Machine: gardencorev1beta1.Machine{Type: provider, Image: &gardencorev1beta1.ShootMachineImage{Name: provider, Version: new("1.0.0")}},
				}},
			},
			Extensions: []gardencorev1beta1.Extension{{Type: "registry-cache"}},
		},
	}
}

// NewSecret returns valid credentials.
func NewSecret(namespace string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "robot-"},
		Type:       corev1.SecretTypeOpaque,
		Immutable:  new(true),
		Data:       map[string][]byte{"username": []byte("john"), "password": []byte("hunter2")},
	}
}

// AdmissionArguments returns the command line of the admission component in a garden, with a loopback address.
func AdmissionArguments(kubeconfig, directory string, port int) []string {
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--leader-election=false",
		"--webhook-config-mode=url",
		fmt.Sprintf("--webhook-config-url=127.0.0.1:%d", port),
		"--webhook-config-namespace=garden",
		"--webhook-config-server-host=127.0.0.1",
		fmt.Sprintf("--webhook-config-server-port=%d", port),
		"--webhook-config-cert-dir=" + filepath.Join(directory, "certificates"),
		"--metrics-bind-address=0",
		"--health-bind-address=0",
	}
}
