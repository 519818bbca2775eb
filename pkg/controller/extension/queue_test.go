// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package extension

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const workers = 4

func TestFairQueueLeavesHalfOfTheWorkersToOthersThanRetries(t *testing.T) {
	inQueue(t, func(g *WithT, queue priorityqueue.PriorityQueue[reconcile.Request]) {
		var (
			mu        sync.Mutex
			processed = map[string]int{}
		)
		count := func(namespace string, more int) int {
			mu.Lock()
			defer mu.Unlock()
			processed[namespace] += more
			return processed[namespace]
		}
		for range workers {
			go func() {
				for {
					request, priority, shutdown := queue.GetWithPriority()
					if shutdown {
						return
					}
					count(request.Namespace, 1)
					if request.Namespace != "healthy" {
						time.Sleep(time.Minute)
						queue.AddWithOpts(priorityqueue.AddOpts{RateLimited: true, Priority: &priority}, request)
					}
					queue.Done(request)
				}
			}()
		}
		for i := range 10 * workers {
			queue.Add(request(fmt.Sprintf("failing-%d", i)))
		}
		// The first attempts take all workers.
		time.Sleep(11 * time.Minute)

		for range 100 {
			before := count("healthy", 0)
			queue.Add(request("healthy"))
			synctest.Wait()
			g.Expect(count("healthy", 0)).To(Equal(before+1), "no delay")
			time.Sleep(time.Second)
		}
		time.Sleep(time.Hour)
		for i := range 10 * workers {
			g.Expect(count(fmt.Sprintf("failing-%d", i), 0)).To(BeNumerically(">=", 2), "retries are not starved")
		}
	})
}

func TestFairQueueForgetsFailuresAfterASuccess(t *testing.T) {
	inQueue(t, func(g *WithT, queue priorityqueue.PriorityQueue[reconcile.Request]) {
		next := func() reconcile.Request {
			request, shutdown := queue.Get()
			g.Expect(shutdown).To(BeFalse())
			return request
		}
		for i := range workers {
			queue.AddRateLimited(request(fmt.Sprint(i)))
		}
		time.Sleep(MaxBackOff)
		got := []reconcile.Request{next(), next()}
		waiting := make(chan reconcile.Request)
		go func() { waiting <- next() }()
		time.Sleep(time.Minute)
		g.Expect(waiting).NotTo(Receive(), "half of the workers are enough for retries")
		g.Expect(testutil.ToFloat64(WaitingRetries.WithLabelValues(t.Name()))).To(Equal(2.0))

		queue.Forget(got[0])
		queue.Done(got[0])
		third := <-waiting
		g.Expect(third).NotTo(BeElementOf(got))
		queue.Add(got[0])
		g.Expect(next()).To(Equal(got[0]), "a success makes a request like any other")
		g.Expect(testutil.ToFloat64(WaitingRetries.WithLabelValues(t.Name()))).To(Equal(1.0))
	})
}

func TestFairQueueHasAWorkerForOthersThanRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		options := WithFairQueue(controller.Options{MaxConcurrentReconciles: 1})
		g.Expect(options.MaxConcurrentReconciles).To(Equal(2))
		queue := options.NewQueue(t.Name(), BackOff())
		for i := range 10 {
			queue.AddRateLimited(request(fmt.Sprintf("failing-%d", i)))
		}
		time.Sleep(MaxBackOff)
		queue.Add(request("healthy"))
		retry, _ := queue.Get()
		g.Expect(retry).NotTo(Equal(request("healthy")))
		other, _ := queue.Get()
		g.Expect(other).To(Equal(request("healthy")))
		queue.ShutDown()
		time.Sleep(time.Hour) // Its goroutines end.
	})
}

// inQueue runs a test with a queue, in a bubble.
func inQueue(t *testing.T, test func(g *WithT, queue priorityqueue.PriorityQueue[reconcile.Request])) {
	synctest.Test(t, func(t *testing.T) {
		options := WithFairQueue(controller.Options{MaxConcurrentReconciles: workers})
		queue, ok := options.NewQueue(t.Name(), BackOff()).(priorityqueue.PriorityQueue[reconcile.Request])
		g := NewWithT(t)
		g.Expect(ok).To(BeTrue())
		defer func() {
			queue.ShutDown()
			time.Sleep(time.Hour) // Workers end.
		}()
		test(g, queue)
	})
}

func request(namespace string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace}}
}
