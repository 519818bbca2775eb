// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package referrers

import (
	"encoding/json"
	"testing"
	"testing/synctest"

	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/test/enginefixture"
)

const (
	repositoryName = "library/app"
	twoReferrers   = `{"schemaVersion":2,"manifests":[{"artifactType":"a/b"},{"artifactType":"c/d"}]}`
)

func newService(t *testing.T) (*Service, *enginefixture.Services) {
	services := enginefixture.New(t, &enginefixture.Registry{Descriptors: twoReferrers}, nil)
	s := New(Options{Content: services.Content, Source: services.Source, Parsing: services.Parsing, Metrics: services.Metrics})
	t.Cleanup(s.Close)
	return s, services
}

func TestListsAreParsedInASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		s, services := newService(t)
		release := services.HoldParsing()
		listed := make(chan error, 1)
		go func() {
			_, err := s.Get(t.Context(), repositoryName, digest.FromString("subject"), "")
			listed <- err
		}()
		synctest.Wait()
		g.Expect(listed).To(BeEmpty())
		release()
		g.Expect(<-listed).To(Succeed())
		g.Expect(services.Parsing).To(BeEmpty())
	})
}

func TestClientsShareTheListOfOneType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		s, services := newService(t)
		release := services.HoldParsing()
		lists := make(chan []byte)
		for range 2 {
			go func() {
				list, err := s.Get(t.Context(), repositoryName, digest.FromString("subject"), "a/b")
				g.Expect(err).NotTo(HaveOccurred())
				lists <- list
			}()
		}
		synctest.Wait()
		release()
		first, second := <-lists, <-lists
		g.Expect(&first[0]).To(BeIdenticalTo(&second[0]))
		g.Expect(string(first)).To(And(ContainSubstring("a/b"), Not(ContainSubstring("c/d"))))
	})
}

func FuzzReferrers(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"artifactType":"a"},null]}`), "a")
	f.Fuzz(func(t *testing.T, document []byte, artifactType string) {
		l, err := parse(document)
		if err != nil {
			return
		}
		encoded, err := json.Marshal(l)
		if err != nil {
			t.Fatalf("a parsed list cannot be passed on: %v", err)
		}
		if _, err := parse(filter(encoded, artifactType)); err != nil {
			t.Errorf("the filtered list is no list: %v", err)
		}
	})
}
