// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/cacheserver/status"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/controller/credentialstate"
	"github.com/larder-project/larder/pkg/controller/readiness"
	"github.com/larder-project/larder/pkg/controller/shoot"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/excerpt"
)

const (
	// objectsTimeout bounds the wait for all objects of a look.
	objectsTimeout = 15 * time.Second
	// reportsTimeout bounds the wait for all reports of a look, so that unresponsive pods do not block the controller.
	// Requests go through the Shoot's API server and the VPN.
	reportsTimeout = 5 * time.Second
	// maxConcurrentReads bounds the caches of a Shoot whose objects are read at a time.
	maxConcurrentReads = 5
	// maxConcurrentReports bounds the concurrent requests to the replicas of a Shoot.
	maxConcurrentReports = 20
	// maxMessage bounds a replica's message in the provider status, and so in a condition and an event.
	maxMessage = 256
)

// Cache is what a look found about a cache.
type Cache struct {
	// Desired is the number of replicas that should run.
	Desired int32
	// Replicas has an entry for each of them.
	Replicas []Replica
	// Err is why its objects could not be read. Nothing else is known then.
	Err error
}

// Replica is what a look found about a replica of a cache.
type Replica struct {
	// Name is the name of its pod.
	Name string
	// Running reports whether its pod runs.
	Running bool
	// Silent reports whether it runs but does not respond.
	Silent bool
	// Credentials is its report about the credential, nil if there is none.
	Credentials *credentials.Report
	// RepositoryCredentials are its reports about credentials for some repositories, by the prefixes of their files.
	RepositoryCredentials map[string]credentials.Report
	// Problem is why it does not work.
	Problem readiness.Problem

	// header is that of requests for reports.
	header http.Header
}

// running returns the replicas that run, with their reports about the credential for some repositories, or for all.
func (c Cache) running(repositories []string) credentialstate.Replicas {
	prefix := credentials.Prefix(repositories)
	replicas := credentialstate.Replicas{Desired: c.Desired}
	for _, replica := range c.Replicas {
		if replica.Running {
			replicas.Running = append(replicas.Running, credentialstate.Replica{Name: replica.Name, Report: replica.report(prefix)})
		}
	}
	return replicas
}

// report returns the report about the credential whose files have a prefix, nil if there is none.
func (r Replica) report(prefix string) *credentials.Report {
	if prefix == "" {
		return r.Credentials
	}
	report, ok := r.RepositoryCredentials[prefix]
	if !ok {
		return nil
	}
	report.Message = excerpt.Line(report.Message, maxMessage)
	return &report
}

// problems returns the problem of each replica, at least one.
func (c Cache) problems() []readiness.Problem {
	if len(c.Replicas) == 0 {
		return []readiness.Problem{{Reason: readiness.ReplicaMissing, Message: "The StatefulSet of the cache does not exist, or has no replicas. The errors in the status of the Shoot show the reason."}}
	}
	found := make([]readiness.Problem, 0, len(c.Replicas))
	for _, replica := range c.Replicas {
		found = append(found, replica.Problem)
	}
	return found
}

// silent reports whether no replica that works has responded.
func (c Cache) silent() bool {
	return !slices.ContainsFunc(c.Replicas, func(replica Replica) bool { return replica.Problem.Works() && !replica.Silent })
}

// Shoots looks at caches through the API servers of their Shoots.
type Shoots struct {
	// Client is a client for the seed, which has the kubeconfigs.
	Client client.Client
	// ReportsTimeout bounds the wait for the reports of all replicas of a Shoot.
	ReportsTimeout time.Duration
	// Now returns the time.
	Now func() time.Time
}

// Look implements Looker. It reads objects by name, so that other pods with the labels of a cache are not asked. It fails
// only if no cache can be read: whoever can make one object unreadable must not hide the other caches.
func (s *Shoots) Look(ctx context.Context, namespace string, caches []string) (map[string]Cache, error) {
	access, err := shoot.ConnectWithin(ctx, s.Client, namespace, shoot.MaxPod)
	if err != nil {
		return nil, err
	}
	defer access.Close()
	found := s.readObjects(ctx, access, caches)
	if len(found) > 0 && !slices.ContainsFunc(found, func(cache Cache) bool { return cache.Err == nil }) {
		return nil, found[0].Err
	}
	s.addReports(ctx, access, found)

	byName := make(map[string]Cache, len(caches))
	for i, name := range caches {
		byName[name] = found[i]
	}
	return byName, nil
}

// readObjects returns the given caches as their objects describe them, in the same order.
func (s *Shoots) readObjects(ctx context.Context, access client.Reader, caches []string) []Cache {
	ctx, cancel := context.WithTimeout(ctx, objectsTimeout)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(maxConcurrentReads)
	found := make([]Cache, len(caches))
	// A random order keeps slow objects from always using up the time of the same other caches.
	for _, i := range rand.Perm(len(caches)) { //nolint:gosec // not a secret
		group.Go(func() error {
			cache, err := s.readCache(ctx, access, caches[i])
			if err != nil {
				cache = Cache{Err: err}
			}
			found[i] = cache
			return nil
		})
	}
	_ = group.Wait() // The functions return no errors.
	return found
}

func (s *Shoots) readCache(ctx context.Context, access client.Reader, name string) (Cache, error) {
	statefulSet := &appsv1.StatefulSet{}
	if found, err := read(ctx, access, name, statefulSet); err != nil || !found {
		return Cache{}, err
	}
	cache := Cache{Desired: min(ptr.Deref(statefulSet.Spec.Replicas, 1), component.MaxReplicas)}
	for ordinal := range int(cache.Desired) {
		replica, err := s.readReplica(ctx, access, name, ordinal)
		if err != nil {
			return Cache{}, err
		}
		cache.Replicas = append(cache.Replicas, replica)
	}
	return cache, nil
}

func (s *Shoots) readReplica(ctx context.Context, access client.Reader, cache string, ordinal int) (Replica, error) {
	name, pod := component.PodName(cache, ordinal), &corev1.Pod{}
	found, err := read(ctx, access, name, pod)
	if err != nil {
		return Replica{}, err
	}
	if !found {
		return Replica{Name: name, Problem: readiness.Pod(name, nil, readiness.Volume{}, s.Now())}, nil
	}
	volume := readiness.Volume{}
	if pod.Status.Phase == corev1.PodPending {
		if volume, err = readVolume(ctx, access, component.ClaimName(cache, ordinal)); err != nil {
			return Replica{}, err
		}
	}
	header, err := debugHeader(ctx, access, cache, pod)
	if err != nil {
		return Replica{}, err
	}
	return Replica{
		header:  header,
		Name:    name,
		Running: pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil,
		Problem: readiness.Pod(name, pod, volume, s.Now()),
	}, nil
}

// debugHeader returns the header with which the server in a pod reports: one that restricts access requires a token.
func debugHeader(ctx context.Context, access client.Reader, cache string, pod *corev1.Pod) (http.Header, error) {
	if !component.RequiresDebugToken(pod) {
		return nil, nil
	}
	secret := &corev1.Secret{}
	if _, err := read(ctx, access, component.AccessSecretName(cache), secret); err != nil {
		return nil, err
	}
	token, ok := component.DebugToken(secret)
	if !ok {
		return nil, nil
	}
	return http.Header{config.DebugTokenHeader: {token}}, nil
}

// readVolume returns the claim of a pending pod, and the StorageClass of a claim that is not bound.
func readVolume(ctx context.Context, access client.Reader, name string) (readiness.Volume, error) {
	claim := &corev1.PersistentVolumeClaim{}
	if found, err := read(ctx, access, name, claim); err != nil || !found {
		return readiness.Volume{}, err
	}
	volume := readiness.Volume{Claim: claim}
	className := ptr.Deref(claim.Spec.StorageClassName, "")
	if className == "" || claim.Status.Phase == corev1.ClaimBound {
		return volume, nil
	}
	class := &storagev1.StorageClass{}
	if err := access.Get(ctx, client.ObjectKey{Name: className}, class); client.IgnoreNotFound(err) != nil {
		return readiness.Volume{}, fmt.Errorf("read StorageClass %s in the Shoot: %w", className, err)
	} else if err == nil {
		volume.Class = class
	}
	return volume, nil
}

// read reads the object with the given name and reports whether it exists.
func read(ctx context.Context, access client.Reader, name string, object client.Object) (bool, error) {
	err := access.Get(ctx, client.ObjectKey{Namespace: component.Namespace, Name: name}, object)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %T %s in the Shoot: %w", object, name, err)
	}
	return true, nil
}

// addReports adds what the running replicas report.
func (s *Shoots) addReports(ctx context.Context, access *shoot.Shoot, caches []Cache) {
	ctx, cancel := context.WithTimeout(ctx, s.ReportsTimeout)
	defer cancel()
	var asked []*Replica
	for _, cache := range caches {
		for i := range cache.Replicas {
			if cache.Replicas[i].Running {
				asked = append(asked, &cache.Replicas[i])
			}
		}
	}
	// A random order keeps unresponsive replicas from always using up the time of the same others.
	rand.Shuffle(len(asked), func(i, j int) { asked[i], asked[j] = asked[j], asked[i] }) //nolint:gosec // not a secret
	var group errgroup.Group
	group.SetLimit(maxConcurrentReports)
	for _, replica := range asked {
		group.Go(func() error {
			s.addReport(ctx, access, replica)
			return nil
		})
	}
	_ = group.Wait() // The functions return no errors.
}

// addReport adds what a replica reports. A replica without a report is judged by its pod alone: the requests of an
// overloaded Shoot fail as well, and the readiness probe of the pod shows whether the replica serves pulls.
func (s *Shoots) addReport(ctx context.Context, access *shoot.Shoot, replica *Replica) {
	report := &status.Report{}
	err := get(ctx, access, replica.Name, config.StatusPath, replica.header, report)
	if errors.Is(err, shoot.ErrNotFound) {
		// Until an upgrade has replaced the pod, its server reports only its credentials.
		reports := credentials.Reports{}
		err = get(ctx, access, replica.Name, config.CredentialsPath, replica.header, &reports)
		report.Credentials, report.RepositoryCredentials = reports.Report, reports.Repositories
	}
	if errors.Is(err, shoot.ErrNotFound) {
		return
	}
	if err != nil {
		replica.Silent = true
		return
	}
	replica.RepositoryCredentials = report.RepositoryCredentials
	if replica.Credentials = report.Credentials; replica.Credentials != nil {
		replica.Credentials.Message = excerpt.Line(replica.Credentials.Message, maxMessage)
	}
	// Every report of the state names the upstream.
	if report.Upstream.Host == "" {
		return
	}
	problem := readiness.Report(replica.Name, report, s.Now())
	// A replica is not ready because its volume hangs, for example.
	isCause := replica.Problem.Reason == readiness.ReplicaNotReady && problem.Reason == readiness.StorageFailing
	if replica.Problem == (readiness.Problem{}) || isCause {
		replica.Problem = problem
	}
}

// get decodes what a pod serves.
func get(ctx context.Context, access *shoot.Shoot, pod, path string, header http.Header, into any) error {
	content, err := access.GetFromPod(ctx, client.ObjectKey{Namespace: component.Namespace, Name: pod}, config.DebugPort, path, header)
	if err != nil {
		return err
	}
	return json.Unmarshal(content, into)
}
