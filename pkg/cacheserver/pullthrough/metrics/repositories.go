// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
)

const (
	// maxRepositories bounds the repositories that are counted, to the most recently used ones.
	maxRepositories = 1000
	// exported is how many repositories of each order are exported.
	exported = 10
)

// Repositories counts what is served and fetched of each repository. Its metrics are those of the repositories at the top
// of each order, so that clients cannot make it export any number of them. A repository that was not used for long starts
// again at 0.
type Repositories struct {
	pushed, pulled, fetches, seconds *prometheus.Desc

	// hidden means that no metrics are exported.
	hidden atomic.Bool

	mu     sync.Mutex
	byName *simplelru.LRU[string, *event.Repository]
}

func newRepositories() *Repositories {
	byName, _ := simplelru.NewLRU[string, *event.Repository](maxRepositories, nil) // It fails for sizes below 1 only.
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, subsystem, name), help, []string{"repository"}, nil)
	}
	const some = ", for the ten repositories with the most bytes sent, the most bytes fetched, and the longest mean fetch time; absent while access to the cache is restricted."
	return &Repositories{
		pushed:  describe("repository_pushed_bytes_total", "Bytes of content sent to clients by repository"+some),
		pulled:  describe("repository_pulled_bytes_total", "Bytes of content fetched from the upstream by repository"+some),
		fetches: describe("repository_fetches_total", "Objects fetched from the upstream by repository"+some),
		seconds: describe("repository_fetch_seconds_total", "Seconds that fetches from the upstream took by repository"+some),
		byName:  byName,
	}
}

// Hide ends the export of the metrics, whose readers may not be allowed to know the repositories.
func (r *Repositories) Hide() { r.hidden.Store(true) }

// served counts the event of a request. It ignores those without content: clients can ask for any number of
// repositories that do not exist, which would replace those that do.
func (r *Repositories) served(e event.Event) {
	switch e.Outcome {
	case event.Hit, event.Miss, event.Joined, event.Stale, event.Bypassed, event.NotStored:
	default:
		if e.Bytes == 0 {
			return
		}
	}
	r.change(e.Repository, func(repository *event.Repository) {
		repository.Requests++
		repository.PushedBytes += e.Bytes
	})
}

// Fetched counts a fetch that ended, with the bytes that arrived.
func (r *Repositories) Fetched(name string, bytes int64, duration time.Duration) {
	if bytes == 0 {
		return
	}
	r.change(event.Bound(name, event.MaxRepository), func(repository *event.Repository) {
		repository.Fetches++
		repository.PulledBytes += bytes
		repository.FetchSeconds += duration.Seconds()
	})
}

func (r *Repositories) change(name string, change func(*event.Repository)) {
	name = strings.ToValidUTF8(name, "?") // Any other is not a valid value of a label.
	r.mu.Lock()
	defer r.mu.Unlock()
	repository, ok := r.byName.Get(name)
	if !ok {
		repository = &event.Repository{Name: name}
		r.byName.Add(name, repository)
	}
	change(repository)
}

// Top returns the repositories that are exported, those that most was sent from first.
func (r *Repositories) Top() []event.Repository {
	all := r.all()
	var top []event.Repository
	for _, by := range []func(event.Repository) float64{
		event.Repository.MeanFetchSeconds,
		func(r event.Repository) float64 { return float64(r.PulledBytes) },
		func(r event.Repository) float64 { return float64(r.PushedBytes) },
	} {
		descending := func(a, b event.Repository) int {
			return cmp.Or(cmp.Compare(by(b), by(a)), cmp.Compare(a.Name, b.Name))
		}
		slices.SortFunc(all, descending)
		for _, repository := range all[:min(exported, len(all))] {
			if !slices.Contains(top, repository) {
				top = append(top, repository)
			}
		}
		slices.SortFunc(top, descending)
	}
	return top
}

func (r *Repositories) all() []event.Repository {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]event.Repository, 0, r.byName.Len())
	for _, repository := range r.byName.Values() {
		all = append(all, *repository)
	}
	return all
}

// Describe implements prometheus.Collector.
func (r *Repositories) Describe(descriptions chan<- *prometheus.Desc) {
	for _, description := range []*prometheus.Desc{r.pushed, r.pulled, r.fetches, r.seconds} {
		descriptions <- description
	}
}

// Collect implements prometheus.Collector.
func (r *Repositories) Collect(metrics chan<- prometheus.Metric) {
	if r.hidden.Load() {
		return
	}
	for _, repository := range r.Top() {
		for description, value := range map[*prometheus.Desc]float64{
			r.pushed:  float64(repository.PushedBytes),
			r.pulled:  float64(repository.PulledBytes),
			r.fetches: float64(repository.Fetches),
			r.seconds: repository.FetchSeconds,
		} {
			metrics <- prometheus.MustNewConstMetric(description, prometheus.CounterValue, value, repository.Name)
		}
	}
}
