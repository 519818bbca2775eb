// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	"github.com/gardener/gardener/pkg/component/observability/monitoring/prometheus/aggregate"
	"github.com/gardener/gardener/pkg/component/observability/monitoring/prometheus/seed"
	"github.com/gardener/gardener/pkg/component/observability/monitoring/prometheus/shoot"
	monitoringutils "github.com/gardener/gardener/pkg/component/observability/monitoring/utils"
	"github.com/gardener/gardener/pkg/features"
	gardenerutils "github.com/gardener/gardener/pkg/utils/gardener"
	"github.com/gardener/gardener/pkg/utils/secrets"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/test/landscape"
)

const (
	// clusterCA is the name of the Secret with the CA of the API server.
	clusterCA = "ca"
	// tokenTimeout limits the wait for gardener-resource-manager.
	tokenTimeout = 2 * time.Minute
)

// NewClient returns a client that knows the objects of prometheus-operator.
func NewClient(l *landscape.Landscape) (client.Client, error) {
	config, err := l.RESTConfig()
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), monitoringv1.AddToScheme(scheme), monitoringv1alpha1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	return client.New(config, client.Options{Scheme: scheme})
}

// Prepare creates what Gardener creates for the Prometheus instances: their access to the cluster, and the ScrapeConfigs
// that do not belong to an extension. Remove deletes it again.
func Prepare(ctx context.Context, l *landscape.Landscape, c client.Client, namespace string) error {
	objects, err := objects(l, namespace)
	if err != nil {
		return err
	}
	for _, object := range objects {
		if err := client.IgnoreAlreadyExists(c.Create(ctx, object)); err != nil {
			return fmt.Errorf("create %T %s: %w", object, object.GetName(), err)
		}
	}
	access := accessSecret(namespace)
	if err := access.Reconcile(ctx, c); err != nil {
		return fmt.Errorf("create Secret %s: %w", access.Secret.Name, err)
	}
	err = wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, tokenTimeout, true, func(ctx context.Context) (bool, error) {
		err := c.Get(ctx, client.ObjectKeyFromObject(access.Secret), access.Secret)
		return len(access.Secret.Data[resourcesv1alpha1.DataKeyToken]) > 0, err
	})
	if err != nil {
		return fmt.Errorf("wait for the token in Secret %s: %w", access.Secret.Name, err)
	}
	return nil
}

// Remove deletes what Prepare created.
func Remove(ctx context.Context, l *landscape.Landscape, c client.Client, namespace string) error {
	objects, err := objects(l, namespace)
	if err != nil {
		return err
	}
	var errs []error
	for _, object := range append(objects, accessSecret(namespace).Secret) {
		errs = append(errs, client.IgnoreNotFound(c.Delete(ctx, object)))
	}
	return errors.Join(errs...)
}

func accessSecret(namespace string) *gardenerutils.AccessSecret {
	return gardenerutils.NewShootAccessSecret(shoot.AccessSecretName, namespace)
}

func objects(l *landscape.Landscape, namespace string) ([]client.Object, error) {
	ca, _, err := l.CA()
	if err != nil {
		return nil, err
	}
	kubelet, err := kubeletScrapeConfig(namespace)
	if err != nil {
		return nil, err
	}
	extensions, err := extensionsScrapeConfig(namespace)
	if err != nil {
		return nil, err
	}
	federation, err := federationScrapeConfig(l, namespace)
	if err != nil {
		return nil, err
	}
	return []client.Object{
		&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: clusterCA, Namespace: namespace},
			Data:       map[string][]byte{secrets.DataKeyCertificateBundle: ca},
		},
		clusterRole(), clusterRoleBinding(), kubelet, extensions, federation,
	}, nil
}

const accessName = "gardener.cloud:monitoring:prometheus-" + shoot.Label

// clusterRole has the permissions of Gardener's component, which does not export it.
func clusterRole() *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: accessName},
		Rules: []rbacv1.PolicyRule{
			{NonResourceURLs: []string{"/metrics"}, Verbs: []string{"get"}},
			{APIGroups: []string{""}, Resources: []string{"nodes", "services", "endpoints", "pods"}, Verbs: []string{"get", "list", "watch"}},
			{APIGroups: []string{""}, Resources: []string{"nodes/metrics", "pods/log", "nodes/proxy", "services/proxy", "pods/proxy"}, Verbs: []string{"get"}},
		},
	}
}

func clusterRoleBinding() *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: accessName},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: accessName},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: shoot.ServiceAccountName, Namespace: metav1.NamespaceSystem}},
	}
}

// kubeletScrapeConfig is Gardener's own, with the statistics of volumes.
func kubeletScrapeConfig(namespace string) (*monitoringv1alpha1.ScrapeConfig, error) {
	// gardenlet registers it at its start.
	if err := features.DefaultFeatureGate.Add(features.GetFeatures(features.OpenTelemetryCollector)); err != nil {
		return nil, err
	}
	all := shoot.CentralScrapeConfigs(namespace, clusterCA, false)
	index := slices.IndexFunc(all, func(config *monitoringv1alpha1.ScrapeConfig) bool { return config.Name == "kube-kubelet" })
	if index < 0 {
		return nil, errors.New("no ScrapeConfig kube-kubelet in Gardener")
	}
	config := all[index]
	config.ObjectMeta = monitoringutils.ConfigObjectMeta(config.Name, namespace, Shoot)
	return config, nil
}

// extensionsScrapeConfig scrapes the pods of extensions like Gardener's PodMonitor. This Prometheus does not run in a
// pod, so it needs a token to find them.
func extensionsScrapeConfig(namespace string) (*monitoringv1alpha1.ScrapeConfig, error) {
	all := seed.CentralPodMonitors()
	index := slices.IndexFunc(all, func(monitor *monitoringv1.PodMonitor) bool { return monitor.Name == "extensions" })
	if index < 0 {
		return nil, errors.New("no PodMonitor extensions in Gardener")
	}
	return &monitoringv1alpha1.ScrapeConfig{
		ObjectMeta: monitoringutils.ConfigObjectMeta("extensions", namespace, Seed),
		Spec: monitoringv1alpha1.ScrapeConfigSpec{
			KubernetesSDConfigs: []monitoringv1alpha1.KubernetesSDConfig{{
				Role:      monitoringv1alpha1.KubernetesRolePod,
				APIServer: new("https://" + v1beta1constants.DeploymentNameKubeAPIServer),
				Authorization: &monitoringv1.SafeAuthorization{Credentials: &corev1.SecretKeySelector{
					LocalObjectReference: corev1.LocalObjectReference{Name: shoot.AccessSecretName},
					Key:                  resourcesv1alpha1.DataKeyToken,
				}},
				TLSConfig: &monitoringv1.SafeTLSConfig{CA: monitoringv1.SecretOrConfigMap{Secret: &corev1.SecretKeySelector{
					LocalObjectReference: corev1.LocalObjectReference{Name: clusterCA},
					Key:                  secrets.DataKeyCertificateBundle,
				}}},
			}},
			RelabelConfigs: all[index].Spec.PodMetricsEndpoints[0].RelabelConfigs,
		},
	}, nil
}

// federationScrapeConfig federates the Prometheus of the Shoot with the selectors of Gardener's ServiceMonitor. There is
// no Service to discover it by.
func federationScrapeConfig(l *landscape.Landscape, namespace string) (*monitoringv1alpha1.ScrapeConfig, error) {
	all := aggregate.CentralServiceMonitors()
	index := slices.IndexFunc(all, func(monitor *monitoringv1.ServiceMonitor) bool { return monitor.Name == "shoot-prometheus" })
	if index < 0 {
		return nil, errors.New("no ServiceMonitor shoot-prometheus in Gardener")
	}
	endpoint := all[index].Spec.Endpoints[0]
	return &monitoringv1alpha1.ScrapeConfig{
		ObjectMeta: monitoringutils.ConfigObjectMeta("shoot-prometheus", namespace, Seed),
		Spec: monitoringv1alpha1.ScrapeConfigSpec{
			JobName:         new("shoot-prometheus"),
			MetricsPath:     new(endpoint.Path),
			HonorLabels:     new(endpoint.HonorLabels),
			HonorTimestamps: endpoint.HonorTimestamps,
			Params:          endpoint.Params,
			StaticConfigs: []monitoringv1alpha1.StaticConfig{{
				Targets: []monitoringv1alpha1.Target{monitoringv1alpha1.Target(Options{Name: Shoot}.address(l))},
			}},
		},
	}, nil
}
