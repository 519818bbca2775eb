// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package docs_test checks the documentation.
package docs_test

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

const repository = "../.."

var (
	link        = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading     = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	codeBlock   = regexp.MustCompile("(?ms)^```.*?^```$")
	punctuation = regexp.MustCompile(`[^\p{L}\p{N}\p{M}_ -]`)
)

func TestDocs(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Docs Suite")
}

var _ = Describe("Links", func() {
	for _, document := range documents() {
		It("have a target in "+document, func() {
			for _, target := range links(document) {
				Expect(leads(document, target)).To(BeTrue(), target.String())
			}
		})
	}
})

// documents returns the paths of all documents in the repository.
func documents() []string {
	var found []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		matches, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil {
			panic(err)
		}
		for _, match := range matches {
			found = append(found, strings.TrimPrefix(match, repository+"/"))
		}
	}
	return found
}

// links returns the targets of the document's links in the repository.
func links(document string) []*url.URL {
	GinkgoHelper()
	var targets []*url.URL
	for _, match := range link.FindAllStringSubmatch(prose(document), -1) {
		target, err := url.Parse(match[1])
		Expect(err).NotTo(HaveOccurred(), document)
		if target.Scheme == "" {
			targets = append(targets, target)
		}
	}
	return targets
}

// leads reports whether the target of a link is an existing file, and an existing heading in it.
func leads(document string, target *url.URL) bool {
	GinkgoHelper()
	file := document
	if target.Path != "" {
		file = filepath.Join(filepath.Dir(document), target.Path)
	}
	if _, err := os.Stat(filepath.Join(repository, file)); err != nil {
		return false
	}
	return target.Fragment == "" || anchors(file)[target.Fragment]
}

// anchors returns the fragments that GitHub assigns to the headings of a document.
func anchors(document string) map[string]bool {
	GinkgoHelper()
	found := map[string]bool{}
	for _, match := range heading.FindAllStringSubmatch(prose(document), -1) {
		text := punctuation.ReplaceAllString(strings.ToLower(match[1]), "")
		found[strings.ReplaceAll(text, " ", "-")] = true
	}
	return found
}

// prose returns a document without its code blocks.
func prose(document string) string {
	GinkgoHelper()
	content, err := os.ReadFile(filepath.Join(repository, document))
	Expect(err).NotTo(HaveOccurred())
	return codeBlock.ReplaceAllString(string(content), "")
}
