// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"regexp"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/mod/modfile"
)

func TestVersions(t *testing.T) {
	t.Chdir("../..")
	RegisterFailHandler(Fail)
	RunSpecs(t, "Versions")
}

var _ = Describe("The repository's Go modules", func() {
	It("select the same versions of shared dependencies", func() {
		Expect(misaligned()).To(BeEmpty(), "run: go run ./hack/versions kubernetes=... with the version that go run ./hack/versions prints")
	})

	It("differ only if there is a reason", func() {
		for path := range apart {
			versions := map[string]bool{}
			for _, dir := range modules {
				if version, err := required(dir, path); err == nil {
					versions[version] = true
				}
			}
			Expect(len(versions)).To(BeNumerically(">", 1), "%s no longer needs an exception", path)
		}
	})

	It("select the modules of one release of Kubernetes", func() {
		kubernetes, err := required("test/landscape/parts/cluster", "k8s.io/kubernetes")
		Expect(err).NotTo(HaveOccurred())
		staging, err := stagingModules()
		Expect(err).NotTo(HaveOccurred())
		Expect(staging).To(ContainElements("k8s.io/api", "k8s.io/client-go"))
		for _, dir := range modules {
			for _, module := range staging {
				if version, err := required(dir, module); err == nil && apart[module] == "" {
					Expect(version).To(Equal(stagingVersion(kubernetes)), "%s in %s", module, dir)
				}
			}
		}
	})
})

var _ = Describe("The versions of the landscape", func() {
	for _, part := range parts {
		for _, mention := range part.mentions {
			It("are up to date in "+mention.path+" for "+part.name, func() {
				version, err := required(part.dir, part.module)
				Expect(err).NotTo(HaveOccurred())
				content, err := os.ReadFile(mention.path)
				Expect(err).NotTo(HaveOccurred())
				match := regexp.MustCompile(mention.pattern).FindStringSubmatch(string(content))
				Expect(match).NotTo(BeNil(), "%s does not match %s", mention.path, mention.pattern)
				Expect(match[1]).To(Equal(shorten(version, match[1])))
			})
		}
	}

	It("keep their precision", func() {
		mention := mention{pattern: `version: "([0-9.]+)"`}
		Expect(mention.replace(`version: "1.36" # 1.36`, "v1.37.2")).To(Equal(`version: "1.37" # 1.36`))
		Expect(mention.replace(`version: "1.36.3"`, "v1.37.2")).To(Equal(`version: "1.37.2"`))
	})
})

var _ = Describe("Moving Kubernetes", func() {
	It("changes only its modules and the replacements of the version that does not exist", func() {
		file, err := modfile.Parse("go.mod", []byte(`module example.com/m

require (
	example.com/other v1.0.0
	k8s.io/api v0.36.3
	k8s.io/cri-api v0.37.0
	k8s.io/kubernetes v1.36.3
)

replace k8s.io/api v0.0.0 => k8s.io/api v0.36.3
`), nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(parts[0].edits("test/landscape/parts/cluster", file, "v1.37.1")).To(ConsistOf(
			"-require=k8s.io/api@v0.37.1",
			"-require=k8s.io/kubernetes@v1.37.1",
			"-replace=k8s.io/api@v0.0.0=k8s.io/api@v0.37.1",
		))
	})

	It("refuses invalid arguments", func() {
		Expect(run([]string{"kubernetes=1.36"})).To(MatchError(ContainSubstring("kubernetes=v1.36.4")))
		Expect(run([]string{"kubernetes"})).To(MatchError(ContainSubstring("kubernetes=v1.36.4")))
		Expect(run([]string{"docker=v1.36.4"})).To(MatchError(ContainSubstring("not one of kubernetes")))
	})
})
