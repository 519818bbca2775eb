// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring_test

import (
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/keyring"
	"github.com/larder-project/larder/pkg/credentials"
)

var _ = Describe("Directory", func() {
	const host = "registry.example.com"
	var dir string

	write := func(name, content string) {
		GinkgoHelper()
		Expect(os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600)).To(Succeed())
	}
	lookup := func(f keyring.Source, repository string) (string, credentials.Credential) {
		GinkgoHelper()
		contents, _ := f.Read()
		Expect(contents).NotTo(BeNil())
		scope, c, err := contents.Wanted.For(context.Background(), repository)
		Expect(err).NotTo(HaveOccurred())
		return scope, c
	}
	auth := func(user, password string) string {
		return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	}

	BeforeEach(func() { dir = GinkgoT().TempDir() })

	It("knows when the files were written", func() {
		write("username", "robot")
		write("password", "secret")
		latest := time.Now().Add(-time.Hour).Truncate(time.Second)
		Expect(os.Chtimes(filepath.Join(dir, "username"), latest, latest)).To(Succeed())
		Expect(os.Chtimes(filepath.Join(dir, "password"), latest.Add(-time.Hour), latest.Add(-time.Hour))).To(Succeed())
		contents, err := keyring.Directory(dir, "", host).Read()
		Expect(err).NotTo(HaveOccurred())
		Expect(contents.Written).To(BeTemporally("==", latest))
	})

	It("follows the files, and keeps the last good credential while they are incomplete", func() {
		f := keyring.Directory(dir, "", host)
		contents, err := f.Read()
		Expect(err).To(HaveOccurred(), "a missing credential is not anonymous access")
		Expect(contents).To(BeNil())

		write("username", "robot")
		write("password", "first\n#: *")
		_, c := lookup(f, "a")
		Expect(c).To(Equal(credentials.Credential{Username: "robot", Password: "first\n#: *"}), "byte for byte")

		write("password", "second-one")
		_, c = lookup(f, "a")
		Expect(c.Password).To(Equal("second-one"))

		Expect(os.Remove(filepath.Join(dir, "password"))).To(Succeed())
		_, c = lookup(f, "a")
		Expect(c.Password).To(Equal("second-one"))
		write("password", "")
		_, c = lookup(f, "a")
		Expect(c.Password).To(Equal("second-one"))
	})

	It("follows a mounted Secret, whose files change by a symbolic link", func() {
		for _, version := range []string{"v1", "v2"} {
			Expect(os.Mkdir(filepath.Join(dir, version), 0o700)).To(Succeed())
			write(version+"/username", "robot")
			write(version+"/password", "password-"+version)
		}
		link := func(version string) {
			GinkgoHelper()
			Expect(os.Symlink(version, filepath.Join(dir, "tmp"))).To(Succeed())
			Expect(os.Rename(filepath.Join(dir, "tmp"), filepath.Join(dir, "..data"))).To(Succeed())
		}
		link("v1")
		for _, name := range []string{"username", "password"} {
			Expect(os.Symlink("..data/"+name, filepath.Join(dir, name))).To(Succeed())
		}
		f := keyring.Directory(dir, "", host)
		_, c := lookup(f, "a")
		Expect(c.Password).To(Equal("password-v1"))
		link("v2")
		_, c = lookup(f, "a")
		Expect(c.Password).To(Equal("password-v2"))
	})

	It("does not treat a file that was read as changed", func() {
		write("password", "one")
		path := filepath.Join(dir, "password")
		// Linux updates the access time if it is older than the last change.
		Expect(os.Chtimes(path, time.Now().Add(-time.Hour), time.Time{})).To(Succeed())
		f := keyring.Directory(dir, "", host)
		before := keyring.Signature(f)
		_, err := os.ReadFile(path)
		Expect(err).NotTo(HaveOccurred())
		Expect(keyring.Signature(f)).To(Equal(before))

		write("password", "second-one")
		Expect(keyring.Signature(f)).NotTo(Equal(before))
	})

	It("reads the name and the previous credential", func() {
		v1 := credentials.Named{Name: "robot-v1", Material: credentials.Static(credentials.Credential{Username: "robot", Password: "one"})}
		v2 := credentials.Named{Name: "robot-v2", Material: credentials.Static(credentials.Credential{Username: "robot", Password: "two"})}
		for name, content := range credentials.Files("", v2, &v1) {
			write(name, string(content))
		}
		f := keyring.Directory(dir, "", host)
		Expect(f.Read()).To(HaveValue(And(
			HaveField("Wanted", keyring.NewSet("robot-v2", v2.Material.Credential)),
			HaveField("Previous", HaveValue(Equal(keyring.NewSet("robot-v1", v1.Material.Credential)))))))

		By("ignoring a previous credential that is missing or invalid")
		write("previous.password", "")
		Expect(f.Read()).To(HaveField("Previous", BeNil()))
		Expect(os.Remove(filepath.Join(dir, "previous.password"))).To(Succeed())
		Expect(f.Read()).To(HaveField("Previous", BeNil()))

		By("returning an error beside the last good credential")
		Expect(os.Remove(filepath.Join(dir, "password"))).To(Succeed())
		contents, err := f.Read()
		Expect(err).To(HaveOccurred())
		Expect(contents.Wanted.Name).To(Equal("robot-v2"))
	})

	It("finds the credential with the longest path", func() {
		write("username", "default")
		write("password", "d")
		write("config.json", `{"auths":{
			"registry.example.com/team":{"auth":"`+auth("team", "t:t")+`"},
			"https://registry.example.com/team/app/":{"username":"app","password":"a"},
			"elsewhere.example.com":{"auth":"`+auth("elsewhere", "e")+`"}}}`)
		f := keyring.Directory(dir, "", host)
		for repository, expected := range map[string][2]string{
			"team/app":      {"team/app", "app"},
			"team/app/sub":  {"team/app", "app"},
			"team/apple":    {"team", "team"},
			"team":          {"team", "team"},
			"teams":         {"", "default"},
			"library/thing": {"", "default"},
		} {
			scope, c := lookup(f, repository)
			Expect([2]string{scope, c.Username}).To(Equal(expected), repository)
		}
		_, c := lookup(f, "team/x")
		Expect(c.Password).To(Equal("t:t"))
	})

	It("accepts all names of Docker Hub", func() {
		write(".dockerconfigjson", `{"auths":{"https://index.docker.io/v1/":{"auth":"`+auth("hub", "h")+`"}}}`)
		_, c := lookup(keyring.Directory(dir, "", "registry-1.docker.io"), "library/alpine")
		Expect(c.Username).To(Equal("hub"))
	})

	It("reads the proxy section of a configuration file", func() {
		write("config.yml", "version: 0.1\nstorage: {inmemory: {}}\nproxy: {remoteurl: https://example.com, username: robot, password: one}\n")
		f := keyring.ConfigFile(filepath.Join(dir, "config.yml"))
		_, c := lookup(f, "a")
		Expect(c.Password).To(Equal("one"))
		write("config.yml", "version: 0.1\nstorage: {inmemory: {}}\nproxy: {remoteurl: https://example.com, username: robot, password: second}\n")
		_, c = lookup(f, "a")
		Expect(c.Password).To(Equal("second"))
		write("config.yml", "version: 0.1\nproxy: [half writ")
		_, c = lookup(f, "a")
		Expect(c.Password).To(Equal("second"))
		write("config.yml", "version: 0.1\nstorage: {inmemory: {}}\nproxy: {remoteurl: https://example.com}\n")
		_, c = lookup(f, "a")
		Expect(c).To(Equal(credentials.Credential{}))
	})
})
