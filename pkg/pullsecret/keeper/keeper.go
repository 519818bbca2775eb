// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"

	"github.com/larder-project/larder/pkg/pullsecret"
)

const (
	// workers is the number of namespaces that are reconciled at a time.
	workers = 4
	// reconcileTimeout bounds the reconciliation of a namespace.
	reconcileTimeout = time.Minute
	// A failed reconciliation is repeated after intervals that double between these.
	minRetry, maxRetry = time.Second, 2 * time.Minute
	// A namespace that has changed does not wait until all namespaces have followed a change of the feed or of a credential,
	// which takes minutes in a big cluster.
	changedPriority, allPriority = 1, 0
	// ownerAge bounds the age of the reference to an owner that was read. With one that was replaced, Kubernetes collects a
	// new Secret, which is then created again.
	ownerAge = 30 * time.Second
)

// Keeper keeps pull secrets and the Secrets of accounts in the namespaces of a cluster. It must not be copied.
type Keeper struct {
	// Client is a client for the cluster.
	Client kubernetes.Interface
	// Recorder records events about Secrets of others in the place of those that the controller keeps.
	Recorder events.EventRecorder
	// Clock decides when credentials are renewed, and passwords are rotated.
	Clock clock.Clock
	// Log is for what operators may have to know.
	Log logr.Logger

	queue      priorityqueue.PriorityQueue[string]
	issuance   issuance
	feeds      cache.SharedIndexInformer
	namespaces cache.SharedIndexInformer
	accounts   cache.SharedIndexInformer
	// rotationDue notifies that passwords may be due.
	rotationDue chan struct{}

	// listing is held while a page of Secrets is in memory.
	listing sync.Mutex

	mu sync.Mutex
	// feed is the one that is followed. Its generation grows with each change of the wanted content.
	feed       pullsecret.Feed
	digest     string
	generation int64
	// required is the generation that a namespace must follow to have what the feed describes: that of the last change of
	// the feed, or of the first attempt to issue one of its credentials. A renewal changes nothing about that.
	required int64
	// owners are the references to the owners of the Secrets in the feed.
	owners map[string]ownerReference
	// secrets are the informers of the Secrets with the names in the feed.
	secrets map[string]*watch
	// results are those of the last reconciliation of each namespace.
	results map[string]result
	// ledgers are the passwords of accounts as they are stored, and ledgerFailures why they could not be, by the names of
	// the caches.
	ledgers        map[string]ledger
	ledgerFailures map[string]string
}

// ownerReference is a reference to an owner, and when it was read.
type ownerReference struct {
	metav1.OwnerReference
	read time.Time
}

// result is the result of a reconciliation of a namespace.
type result struct {
	// generation is that of the feed; zero if the last reconciliation was not complete.
	generation int64
	// foreign are the names that Secrets of others have.
	foreign map[string]bool
	// failed are the reasons why Secrets could not be written.
	failed map[string]string
	// references is the reason why the default ServiceAccount could not be updated, empty if it is up to date.
	references string
	// unreferenced are the pull secrets that it should reference, but does not.
	unreferenced []string
}

// Run follows the feed until the context ends.
func (k *Keeper) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k.issuance = issuance{clock: k.Clock, changed: k.attempted}
	k.rotationDue = make(chan struct{}, 1)
	k.mu.Lock()
	k.secrets, k.results = map[string]*watch{}, map[string]result{}
	k.ledgers, k.ledgerFailures = map[string]ledger{}, map[string]string{}
	k.mu.Unlock()
	if err := k.addInformers(ctx); err != nil {
		return err
	}

	k.queue = priorityqueue.New("namespaces", func(o *priorityqueue.Opts[string]) {
		o.RateLimiter = workqueue.NewTypedItemExponentialFailureRateLimiter[string](minRetry, maxRetry)
	})

	var running sync.WaitGroup
	for _, informer := range []cache.SharedIndexInformer{k.feeds, k.namespaces, k.accounts} {
		running.Go(func() { informer.RunWithContext(ctx) })
	}
	defer running.Wait()
	defer k.queue.ShutDown()
	defer cancel()
	// Without all of them, namespaces would look empty, and their pull secrets would be created again.
	if cache.WaitForCacheSync(ctx.Done(), k.namespaces.HasSynced, k.accounts.HasSynced) {
		running.Go(func() { k.rotate(ctx) })
		for range workers {
			running.Go(func() {
				for k.next(ctx) {
				}
			})
		}
	}
	<-ctx.Done()
	return nil
}

// next reconciles the next namespace, and returns false at the end.
func (k *Keeper) next(ctx context.Context) bool {
	namespace, priority, shutdown := k.queue.GetWithPriority()
	if shutdown {
		return false
	}
	defer k.queue.Done(namespace)
	reconcileCtx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	err := k.reconcile(reconcileCtx, namespace)
	if err == nil {
		k.queue.Forget(namespace)
		return true
	}
	if !isPassing(err) {
		k.Log.Info("Failed to write Secrets", "namespace", namespace, "reason", reason(err))
	}
	k.queue.AddWithOpts(priorityqueue.AddOpts{RateLimited: true, Priority: &priority}, namespace)
	return true
}

// errNotSynced is the error for a name whose Secrets have not been listed yet.
var errNotSynced = errors.New("the Secrets have not been listed yet")

// isPassing reports whether an error only means that an informer lags behind. It is no failure, but the namespace does
// not follow the feed yet.
func isPassing(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || errors.Is(err, errNotSynced)
}

// reconcile makes a namespace have the wanted Secrets and no others.
func (k *Keeper) reconcile(ctx context.Context, name string) error {
	object, exists, err := k.namespaces.GetStore().GetByKey(name)
	if err != nil {
		return err
	}
	if !exists || object.(*corev1.Namespace).DeletionTimestamp != nil {
		k.forget(name) // Kubernetes deletes what it contains.
		return nil
	}
	feed, generation := k.current()
	if generation == 0 {
		return nil // Without a feed, what is deployed stays.
	}

	var (
		found = result{generation: generation, foreign: map[string]bool{}, failed: map[string]string{}}
		refs  references
		errs  []error
	)
	for _, secret := range k.keptOf(feed) {
		done, err := k.reconcileSecret(ctx, object.(*corev1.Namespace), secret)
		switch {
		case err != nil:
			errs = append(errs, err)
			refs.undecided = append(refs.undecided, secret.name)
			if isPassing(err) {
				found.generation = 0
			} else {
				found.failed[secret.name] = reason(err)
			}
		case done == replace:
			found.generation = 0
			refs.undecided = append(refs.undecided, secret.name)
		case done == write && secret.isReferenced:
			refs.wanted = append(refs.wanted, secret.name)
		case done == respect:
			found.foreign[secret.name] = true
		}
	}
	if missing, err := k.reconcileReferences(ctx, name, refs); err != nil {
		errs = append(errs, err)
		if isPassing(err) {
			found.generation = 0
		} else {
			found.references, found.unreferenced = reason(err), missing
		}
	}
	k.record(name, found)
	return errors.Join(errs...)
}

// reconcileSecret makes a namespace have or not have a Secret. It returns write if it has it.
func (k *Keeper) reconcileSecret(ctx context.Context, namespace *corev1.Namespace, secret kept) (action, error) {
	present, err := k.present(namespace.Name, secret.name)
	if err != nil {
		return leave, err
	}
	next := decide(namespace.UID, secret.selects(namespace), present)
	switch next {
	case remove:
		return remove, k.remove(ctx, present)
	case replace:
		// The next reconciliation, after the informer has noticed this, creates it.
		return replace, k.remove(ctx, present)
	case write:
		return k.write(ctx, namespace, secret, present)
	}
	return next, nil
}

// write creates or updates a Secret if it differs.
func (k *Keeper) write(ctx context.Context, namespace *corev1.Namespace, secret kept, present *corev1.Secret) (action, error) {
	content, err := secret.content(ctx, present)
	switch {
	case err != nil:
		return leave, err
	case content == nil && present == nil:
		return leave, nil
	case content == nil:
		return write, nil
	case present == nil:
		return write, k.create(ctx, namespace, secret.name, content)
	case hasContent(present, content) && isOwnedBy(present, pullsecret.OwnerName(secret.name)):
		return write, nil
	}
	return write, k.update(ctx, present, content)
}

// reconcileReferences makes the default ServiceAccount of a namespace reference the pull secrets. If that fails, it
// returns the references that are missing.
func (k *Keeper) reconcileReferences(ctx context.Context, namespace string, refs references) ([]string, error) {
	object, exists, err := k.accounts.GetStore().GetByKey(namespace + "/" + pullsecret.DefaultServiceAccount)
	if err != nil || !exists {
		return nil, err // Kubernetes creates it soon, which notifies the controller.
	}
	account := object.(*corev1.ServiceAccount)
	c, changed := refs.changeOf(account)
	if !changed {
		return nil, nil
	}
	return refs.missing(account), k.apply(ctx, account, c)
}

// record records the result of a reconciliation, and an event about each foreign Secret that is new.
func (k *Keeper) record(namespace string, found result) {
	k.mu.Lock()
	before := k.results[namespace]
	k.results[namespace] = found
	k.mu.Unlock()
	for name := range found.foreign {
		if before.foreign[name] {
			continue
		}
		if present, err := k.present(namespace, name); err == nil && present != nil {
			k.Recorder.Eventf(present, nil, corev1.EventTypeWarning, "ForeignSecret", "Keep",
				"The registry cache needs this name for a Secret of its own. This Secret is not its own, so it stays as it is. "+
					"Delete or rename it, or change the name of the pull secret or the account of the cache.")
		}
	}
}

func (k *Keeper) forget(namespace string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.results, namespace)
}

// current returns the feed with its generation.
func (k *Keeper) current() (pullsecret.Feed, int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.feed, k.generation
}

// reason returns a short reason for an error. It contains no message of the API server: one of an admission webhook may
// quote the object.
func reason(err error) string {
	if reason := apierrors.ReasonForError(err); reason != "" {
		return string(reason)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "Timeout"
	case errors.Is(err, errForeignAccounts):
		return "NotOwned"
	}
	return "Unreachable"
}
