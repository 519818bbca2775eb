// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/volume"
)

const limit = 2 * time.Second

// run runs a test with a monitor of a volume that is not probed.
func run(t *testing.T, test func(g Gomega, m *volume.Monitor)) {
	t.Helper()
	runWith(t, nil, test)
}

func runWith(t *testing.T, probe func(), test func(g Gomega, m *volume.Monitor)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := volume.New(limit)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			m.Run(ctx, probe, func(bool) {})
			close(ended)
		}()
		test(NewWithT(t), m)
		cancel()
		<-ended
	})
}

// after waits, and then until the monitor has looked.
func after(d time.Duration) {
	time.Sleep(d + 300*time.Millisecond)
	synctest.Wait()
}

func TestHangs(t *testing.T) {
	t.Run("if a call does not return, until it does", func(t *testing.T) {
		run(t, func(g Gomega, m *volume.Monitor) {
			call := m.Write()
			time.Sleep(limit - time.Millisecond)
			g.Expect(m.Hangs()).To(BeFalse())
			g.Expect(m.Hanging()).NotTo(BeClosed())
			after(0)
			g.Expect(m.Hangs()).To(BeTrue())
			hanging := m.Hanging()
			g.Expect(hanging).To(BeClosed())
			after(time.Hour)
			g.Expect(m.Hangs()).To(BeTrue())
			call.Returned()
			after(0)
			g.Expect(m.Hangs()).To(BeFalse())
			g.Expect(m.Hanging()).NotTo(BeClosed())
		})
	})
	t.Run("if a call does not return, whatever happens in the background", func(t *testing.T) {
		run(t, func(g Gomega, m *volume.Monitor) {
			_ = m.Read()
			for range 10 {
				m.Long().Returned()
				after(0)
			}
			g.Expect(m.Hangs()).To(BeTrue())
		})
	})
	t.Run("if reads do not return for a minute while other calls do", func(t *testing.T) {
		run(t, func(g Gomega, m *volume.Monitor) {
			_ = m.Read()
			for range 58 {
				m.Write().Returned()
				time.Sleep(time.Second)
			}
			g.Expect(m.Hangs()).To(BeFalse())
			for range 5 {
				m.Write().Returned()
				time.Sleep(time.Second)
			}
			g.Expect(m.Hangs()).To(BeTrue())
		})
	})
	t.Run("if writes do not return for five times as long while reads do", func(t *testing.T) {
		run(t, func(g Gomega, m *volume.Monitor) {
			_ = m.Write() // As on a volume with a hanging journal.
			for range 5 {
				m.Read().Returned()
				time.Sleep(limit)
			}
			g.Expect(m.Hangs()).To(BeFalse())
			m.Read().Returned()
			after(0)
			g.Expect(m.Hangs()).To(BeTrue())
		})
	})
	t.Run("if a small change does not become durable for five times as long", func(t *testing.T) {
		run(t, func(g Gomega, m *volume.Monitor) {
			_ = m.Sync()
			time.Sleep(5 * limit)
			g.Expect(m.Hangs()).To(BeFalse())
			after(0)
			g.Expect(m.Hangs()).To(BeTrue())
		})
	})
}

// stuck is a volume whose probes do not return.
func stuck(probes *atomic.Int32) (probe func(), release func()) {
	// The channel has to belong to the bubble in which it is first used.
	released := sync.OnceValue(func() chan struct{} { return make(chan struct{}) })
	return func() {
		probes.Add(1)
		<-released()
	}, sync.OnceFunc(func() { close(released()) })
}

func TestProbe(t *testing.T) {
	t.Run("that returns ends a hang, while the call is still stuck", func(t *testing.T) {
		var probes atomic.Int32
		runWith(t, func() { probes.Add(1) }, func(g Gomega, m *volume.Monitor) {
			hanging := m.Hanging()
			call := m.Read()
			after(limit - 400*time.Millisecond)
			g.Expect(hanging).NotTo(BeClosed())
			g.Expect(probes.Load()).To(BeZero(), "nothing is written to a volume that responds")
			after(200 * time.Millisecond)
			g.Expect(hanging).To(BeClosed(), "so that whatever waits for the call gives up")
			g.Expect(m.Hangs()).To(BeFalse())
			g.Expect(m.Stuck()).To(BeTrue())

			hanging = m.Hanging()
			after(time.Hour)
			g.Expect(hanging).NotTo(BeClosed(), "a stuck call counts once")
			g.Expect(probes.Load()).To(BeEquivalentTo(1))

			another := m.Read()
			after(limit)
			g.Expect(hanging).To(BeClosed())
			g.Expect(m.Hangs()).To(BeFalse())
			another.Returned()
			after(0)
			g.Expect(m.Stuck()).To(BeTrue())
			call.Returned()
			after(0)
			g.Expect(m.Stuck()).To(BeFalse())
		})
	})
	t.Run("that does not return leaves it hanging, and is the only one", func(t *testing.T) {
		var probes atomic.Int32
		probe, release := stuck(&probes)
		runWith(t, probe, func(g Gomega, m *volume.Monitor) {
			defer release()
			_ = m.Read()
			after(time.Hour)
			g.Expect(m.Hangs()).To(BeTrue())
			g.Expect(probes.Load()).To(BeEquivalentTo(1))
			release() // It returns too late to count, but the next one does not.
			after(0)
			g.Expect(m.Hangs()).To(BeFalse())
			g.Expect(probes.Load()).To(BeEquivalentTo(2))
		})
	})
	t.Run("may take as long as other calls that sync", func(t *testing.T) {
		runWith(t, func() { time.Sleep(5*limit - time.Second) }, func(g Gomega, m *volume.Monitor) {
			_ = m.Read()
			after(limit)
			g.Expect(m.Hangs()).To(BeTrue())
			after(5 * limit)
			g.Expect(m.Hangs()).To(BeFalse())
		})
	})
	t.Run("does not end a hang if it takes longer", func(t *testing.T) {
		runWith(t, func() { time.Sleep(6 * limit) }, func(g Gomega, m *volume.Monitor) {
			call := m.Read()
			after(limit)
			for range 3600 {
				after(0)
				g.Expect(m.Hangs()).To(BeTrue())
			}
			call.Returned()
			after(0)
			g.Expect(m.Hangs()).To(BeFalse())
			time.Sleep(6 * limit) // Until the last probe has ended.
		})
	})
	t.Run("that outlives the monitor ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var probes atomic.Int32
			probe, release := stuck(&probes)
			m := volume.New(limit)
			_ = m.Read()
			ctx, cancel := context.WithTimeout(t.Context(), 2*limit)
			defer cancel()
			m.Run(ctx, probe, func(bool) {})
			NewWithT(t).Expect(probes.Load()).To(BeEquivalentTo(1))
			release() // The bubble fails if the goroutine does not end.
		})
	})
	t.Run("does not let the number of stuck calls grow without bound", func(t *testing.T) {
		var probes atomic.Int32
		runWith(t, func() { probes.Add(1) }, func(g Gomega, m *volume.Monitor) {
			var calls []volume.Call
			for range 256 {
				calls = append(calls, m.Read())
			}
			after(limit)
			g.Expect(m.Hangs()).To(BeFalse())
			calls = append(calls, m.Read())
			after(limit)
			g.Expect(m.Hangs()).To(BeTrue())
			before := probes.Load()
			after(100 * limit)
			g.Expect(m.Hangs()).To(BeTrue())
			g.Expect(probes.Load()-before).To(BeNumerically("~", 100, 2), "one within each limit")
			calls[0].Returned()
			after(limit)
			g.Expect(m.Hangs()).To(BeFalse())
		})
	})
}

func TestLongCall(t *testing.T) {
	var probes atomic.Int32
	t.Run("does not mean a hang while reads return", func(t *testing.T) {
		probe, release := stuck(&probes)
		runWith(t, probe, func(g Gomega, m *volume.Monitor) {
			defer release()
			hanging := m.Hanging()
			_ = m.Long()
			for range 600 {
				m.Read().Returned()
				time.Sleep(time.Second)
			}
			g.Expect(hanging).NotTo(BeClosed())
			g.Expect(probes.Load()).To(BeZero())
		})
	})
	t.Run("does not mean a hang if the volume responds to a probe", func(t *testing.T) {
		runWith(t, func() { probes.Add(1) }, func(g Gomega, m *volume.Monitor) {
			hanging := m.Hanging()
			_ = m.Long()
			after(10 * time.Minute)
			g.Expect(hanging).NotTo(BeClosed(), "not even for a moment")
			g.Expect(probes.Load()).To(BeEquivalentTo(1))
		})
	})
	t.Run("means a hang if the volume does not respond to a probe", func(t *testing.T) {
		probe, release := stuck(&probes)
		runWith(t, probe, func(g Gomega, m *volume.Monitor) {
			defer release()
			_ = m.Long()
			after(30*limit + 4*limit)
			g.Expect(m.Hangs()).To(BeFalse())
			after(limit)
			g.Expect(m.Hangs()).To(BeTrue())
		})
	})
}

func TestDoesNotHang(t *testing.T) {
	for name, work := range map[string]func(m *volume.Monitor){
		"without calls": func(*volume.Monitor) { time.Sleep(time.Hour) },
		"while one call is slow, and others return": func(m *volume.Monitor) {
			for range 10 {
				slow := m.Write()
				for range 3 {
					time.Sleep(time.Second)
					m.Read().Returned()
				}
				slow.Returned()
			}
		},
		"while all calls are slow, but return": func(m *volume.Monitor) {
			first, second := m.Write(), m.Write()
			for range 40 { // One returns every 1.5 seconds, three seconds after it began.
				time.Sleep(1500 * time.Millisecond)
				first.Returned()
				first, second = second, m.Write()
			}
			first.Returned()
			second.Returned()
		},
		"between calls that return": func(m *volume.Monitor) {
			for range 10 {
				m.Read().Returned()
				time.Sleep(10 * time.Second)
				call := m.Read()
				time.Sleep(limit - 200*time.Millisecond)
				call.Returned()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(g Gomega, m *volume.Monitor) {
				hanging := m.Hanging()
				work(m)
				g.Expect(hanging).NotTo(BeClosed(), "not even for a moment")
			})
		})
	}
}

func TestNoMonitor(t *testing.T) {
	g := NewWithT(t)
	var m *volume.Monitor
	m.Write().Returned()
	g.Expect(m.Hangs()).To(BeFalse())
	g.Expect(m.Hanging()).To(BeNil())
}
