// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package extension

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// WaitingRetries counts the requests that wait in fair queues. They are outside of the queue that controller-runtime
// measures, which looks idle while many Extensions fail.
var WaitingRetries = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Name: "registry_cache_waiting_retries",
	Help: "Failed Extensions that wait for their next reconciliation until others have failed again or succeeded.",
}, []string{"controller"})

// WithFairQueue returns options whose queue gives at most half of the workers to Extensions whose last reconciliation
// failed. Each of these may take a worker until a timeout ends, as when the API server of a Shoot does not respond, and
// a few would keep all others waiting. So there are at least two workers.
func WithFairQueue(options controller.Options) controller.Options {
	options.MaxConcurrentReconciles = max(2, options.MaxConcurrentReconciles)
	options.NewQueue = func(name string, limiter workqueue.TypedRateLimiter[reconcile.Request]) workqueue.TypedRateLimitingInterface[reconcile.Request] {
		return newFairQueue(name, limiter, options.MaxConcurrentReconciles/2)
	}
	return options
}

// fairQueue bounds the number of requests that are processed at the same time after a failure.
type fairQueue struct {
	priorityqueue.PriorityQueue[reconcile.Request]

	limit int
	gauge prometheus.Gauge

	mu sync.Mutex
	// retries are the requests that are or may be processed after a failure.
	retries sets.Set[reconcile.Request]
	// waiting are those that follow them, each once, in the order of their arrival.
	waiting []reconcile.Request
}

func newFairQueue(name string, limiter workqueue.TypedRateLimiter[reconcile.Request], limit int) *fairQueue {
	return &fairQueue{
		PriorityQueue: priorityqueue.New(name, func(o *priorityqueue.Opts[reconcile.Request]) { o.RateLimiter = limiter }),
		limit:         limit,
		gauge:         WaitingRetries.WithLabelValues(name),
		retries:       sets.New[reconcile.Request](),
	}
}

// Get implements priorityqueue.PriorityQueue.
func (q *fairQueue) Get() (reconcile.Request, bool) {
	request, _, shutdown := q.GetWithPriority()
	return request, shutdown
}

// GetWithPriority implements priorityqueue.PriorityQueue.
func (q *fairQueue) GetWithPriority() (reconcile.Request, int, bool) {
	for {
		request, priority, shutdown := q.PriorityQueue.GetWithPriority()
		if shutdown || q.admit(request) {
			return request, priority, shutdown
		}
		q.PriorityQueue.Done(request)
	}
}

// admit reports whether a request may be processed now. Otherwise, the request waits.
func (q *fairQueue) admit(request reconcile.Request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.NumRequeues(request) == 0 || q.retries.Has(request) {
		return true
	}
	if len(q.retries) < q.limit {
		q.retries.Insert(request)
		return true
	}
	if !slices.Contains(q.waiting, request) {
		q.waiting = append(q.waiting, request)
		q.gauge.Inc()
	}
	return false
}

// Done implements priorityqueue.PriorityQueue. The place of a retry goes to the first one that waits.
func (q *fairQueue) Done(request reconcile.Request) {
	q.PriorityQueue.Done(request)
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.retries.Has(request) {
		return
	}
	q.retries.Delete(request)
	if len(q.waiting) > 0 {
		q.retries.Insert(q.waiting[0])
		q.Add(q.waiting[0])
		q.waiting = q.waiting[1:]
		q.gauge.Dec()
	}
}
