// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	"github.com/gardener/gardener/pkg/utils/managedresources"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/upstream"
)

// Nodes learn only after the reconciliation of the Extension that a cache is gone, and use its cluster IP until then.
// If its Service were deleted with the cache, another Service could get that address and respond in place of the
// upstream. So the Service retires: it stays without pods, and keeps its name and address, until gardenlet reports a
// reconciliation of the Shoot that ended later, after which all nodes have applied their OperatingSystemConfigs. The
// [Janitor] then removes it.

const (
	// upstreamAnnotation of a Service is the upstream of its cache.
	upstreamAnnotation = "registry.extensions.gardener.cloud/upstream"
	// retiredAnnotation of a Service is the time since which it has no cache.
	retiredAnnotation = "registry.extensions.gardener.cloud/retired-at"
	// retiredLabel of a ManagedResource is "true" if it contains retired Services.
	retiredLabel = "registry.extensions.gardener.cloud/retired-services"

	// maxRetired bounds the retired Services of an owner who keeps replacing upstreams while no reconciliation
	// succeeds.
	maxRetired = 200
)

// deployServices deploys the Services and waits until they exist. It returns the caches that can be deployed now, with
// the names that their Services can have now.
func (a *Actuator) deployServices(ctx context.Context, log logr.Logger, cluster *extensionscontroller.Cluster, caches []deployment) ([]deployment, error) {
	namespace := cluster.ObjectMeta.Name
	deployed, err := readServices(ctx, a.Client, namespace)
	if err != nil {
		return nil, err
	}
	plan := planServices(deployed, caches, nodesUpdated(cluster.Shoot), a.Clock.Now())
	for _, cache := range plan.waiting {
		log.Info("Delaying cache until the nodes no longer use another one with the same names", "upstream", cache.Cache.Upstream, "name", cache.Name(), "service", cache.ServiceName())
	}
	if err := a.writeServices(ctx, namespace, Origin, plan.services()); err != nil {
		return nil, err
	}
	return plan.caches, a.waitUntilHealthy(ctx, namespace, ManagedResourceServices)
}

// retireServices retires all Services when the extension is removed from a Shoot. If this extension is removed from the
// seed before the [Janitor] has removed them, they are deleted with the Shoot: gardenlet deletes objects with the
// origin gardener.
func (a *Actuator) retireServices(ctx context.Context, cluster *extensionscontroller.Cluster) error {
	namespace := cluster.ObjectMeta.Name
	deployed, err := readServices(ctx, a.Client, namespace)
	if err != nil {
		return err
	}
	plan := planServices(deployed, nil, nodesUpdated(cluster.Shoot), a.Clock.Now())
	if len(plan.retired) == 0 {
		return a.removeManagedResource(ctx, namespace, ManagedResourceServices, true)
	}
	return a.writeServices(ctx, namespace, managedresources.LabelValueGardener, plan.services())
}

// dropRetired removes the retired Services, and waits until they are gone.
func (a *Actuator) dropRetired(ctx context.Context, namespace string) error {
	deployed, err := readServices(ctx, a.Client, namespace)
	if err != nil {
		return err
	}
	kept := slices.DeleteFunc(slices.Clone(deployed), isRetired)
	if len(kept) == len(deployed) {
		return nil
	}
	if err := a.writeServices(ctx, namespace, Origin, kept); err != nil {
		return err
	}
	return a.waitUntilHealthy(ctx, namespace, ManagedResourceServices)
}

func (a *Actuator) writeServices(ctx context.Context, namespace, origin string, services []*corev1.Service) error {
	objects := make([]client.Object, 0, len(services))
	for _, service := range services {
		objects = append(objects, service)
	}
	return a.deploy(ctx, namespace, ManagedResourceServices, objects, &metadata{labels: map[string]string{
		managedresources.LabelKeyOrigin: origin,
		retiredLabel:                    fmt.Sprint(slices.ContainsFunc(services, isRetired)),
	}})
}

// readServices returns the Services as last deployed, sorted by name. If the Secret does not exist, it returns none,
// and the Services are deployed again.
func readServices(ctx context.Context, seed client.Client, namespace string) ([]*corev1.Service, error) {
	objects, err := readObjects(ctx, seed, namespace, ManagedResourceServices)
	if client.IgnoreNotFound(err) != nil {
		return nil, err
	}
	services := make([]*corev1.Service, 0, len(objects))
	for _, object := range objects {
		if service, ok := object.(*corev1.Service); ok {
			services = append(services, service)
		}
	}
	slices.SortFunc(services, func(a, b *corev1.Service) int { return strings.Compare(a.Name, b.Name) })
	return services, nil
}

// nodesUpdated returns when the last reconciliation of the Shoot succeeded, or the zero time if the Cluster does not
// show it, for example during the next reconciliation.
func nodesUpdated(shoot *gardencorev1beta1.Shoot) time.Time {
	last := shoot.Status.LastOperation
	if last == nil || last.State != gardencorev1beta1.LastOperationStateSucceeded {
		return time.Time{}
	}
	switch last.Type {
	case gardencorev1beta1.LastOperationTypeCreate, gardencorev1beta1.LastOperationTypeReconcile, gardencorev1beta1.LastOperationTypeRestore:
		return last.LastUpdateTime.Time
	}
	return time.Time{}
}

// servicePlan decides which Services are deployed.
type servicePlan struct {
	// caches have Services.
	caches []deployment
	// retired are Services without a cache.
	retired []*corev1.Service
	// waiting are caches whose names belong to retired Services.
	waiting []deployment
}

// planServices plans the Services, given the deployed ones and the time of the last update of all nodes.
func planServices(deployed []*corev1.Service, caches []deployment, updated, now time.Time) servicePlan {
	var plan servicePlan
	deployed = slices.DeleteFunc(slices.Clone(deployed), func(service *corev1.Service) bool {
		return isReleased(service, updated, now)
	})
	caches = withPresentNames(deployed, caches)
	for _, service := range deployed {
		current := func(cache deployment) bool {
			return cache.ServiceName() == service.Name && belongsTo(service, cache)
		}
		if slices.ContainsFunc(caches, current) {
			continue
		}
		service = service.DeepCopy()
		metav1.SetMetaDataAnnotation(&service.ObjectMeta, retiredAnnotation, retiredAt(service, now).UTC().Format(time.RFC3339))
		plan.retired = append(plan.retired, service)
	}
	plan.retired = newest(plan.retired, now)

	for _, cache := range caches {
		taken := func(service *corev1.Service) bool {
			return !belongsTo(service, cache) && (service.Name == cache.ServiceName() || component.NameOf(service) == cache.Name())
		}
		if slices.ContainsFunc(plan.retired, taken) {
			plan.waiting = append(plan.waiting, cache)
		} else {
			plan.caches = append(plan.caches, cache)
		}
	}
	return plan
}

// services returns the Services to deploy.
func (p servicePlan) services() []*corev1.Service {
	services := slices.Clone(p.retired)
	for _, cache := range p.caches {
		service := component.Service(cache.Values)
		metav1.SetMetaDataAnnotation(&service.ObjectMeta, upstreamAnnotation, cache.Cache.Upstream)
		services = append(services, service)
	}
	return services
}

// withPresentNames returns the caches with the names that their Services can have now: a cache keeps its old name while
// another cache still has the new one.
func withPresentNames(deployed []*corev1.Service, caches []deployment) []deployment {
	out := slices.Clone(caches)
	for i, cache := range out {
		prefix := upstream.Upstream(cache.Cache.Upstream).ServiceName(new(""))
		foreign := func(service *corev1.Service) bool {
			return service.Name == cache.ServiceName() && !belongsTo(service, cache)
		}
		present := func(service *corev1.Service) bool { return !isRetired(service) && belongsTo(service, cache) }
		if at := slices.IndexFunc(deployed, present); at >= 0 && slices.ContainsFunc(deployed, foreign) {
			out[i].Cache.ServiceNameSuffix = new(strings.TrimPrefix(deployed[at].Name, prefix))
		}
	}
	return out
}

// belongsTo reports whether a Service is, or was, that of a cache. Services that were deployed without the annotation
// are identified by their labels, which are the same for very few upstreams.
func belongsTo(service *corev1.Service, cache deployment) bool {
	if host, ok := service.Annotations[upstreamAnnotation]; ok {
		return host == cache.Cache.Upstream
	}
	return labels.SelectorFromSet(component.Labels(upstream.Upstream(cache.Cache.Upstream))).Matches(labels.Set(service.Labels))
}

func isRetired(service *corev1.Service) bool {
	_, retired := service.Annotations[retiredAnnotation]
	return retired
}

// isReleased reports whether no node uses a retired Service, given the time of the last update of all nodes. Both times
// are in whole seconds, so equal times count: a quick operation ends in the second in which the Service retired. The
// result of an earlier operation cannot count by mistake: gardenlet overwrites it in the Cluster before it changes the
// Extension.
func isReleased(service *corev1.Service, updated, now time.Time) bool {
	return isRetired(service) && !updated.Before(retiredAt(service, now))
}

// retiredAt returns the time since which a Service has no cache: now if it had one until now.
func retiredAt(service *corev1.Service, now time.Time) time.Time {
	at, err := time.Parse(time.RFC3339, service.Annotations[retiredAnnotation])
	if err != nil {
		return now
	}
	return at
}

// newest returns the maxRetired Services that retired last.
func newest(services []*corev1.Service, now time.Time) []*corev1.Service {
	if len(services) <= maxRetired {
		return services
	}
	slices.SortStableFunc(services, func(a, b *corev1.Service) int {
		return -cmp.Compare(retiredAt(a, now).Unix(), retiredAt(b, now).Unix())
	})
	return services[:maxRetired]
}
