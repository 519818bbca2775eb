// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// machine describes the control groups of a machine: the lines of its mountinfo, with ROOT as the mount point, and the
// control files by their paths below it.
type machine struct {
	mounts []string
	files  map[string]string
}

const group = "larder-1"

// with returns the machine with changed files.
func (m machine) with(files map[string]string) machine {
	all := maps.Clone(m.files)
	maps.Copy(all, files)
	return machine{m.mounts, all}
}

// without returns the machine without a file.
func (m machine) without(file string) machine {
	all := maps.Clone(m.files)
	delete(all, file)
	return machine{m.mounts, all}
}

// write writes the machine's files and returns its hierarchies and their mount point.
func (m machine) write() (*Hierarchies, string, error) {
	GinkgoHelper()
	root := GinkgoT().TempDir()
	lines := slices.Clone(m.mounts)
	for i, line := range lines {
		lines[i] = strings.ReplaceAll(line, "ROOT", root)
	}
	for path, content := range m.files {
		path = filepath.Join(root, path)
		Expect(os.MkdirAll(filepath.Dir(path), 0o750)).To(Succeed())
		Expect(os.WriteFile(path, []byte(content), 0o600)).To(Succeed())
	}
	found, err := parse(strings.Join(lines, "\n")+"\n", root)
	return found, root, err
}

func v1Mount(controller string) string {
	return fmt.Sprintf("32 31 0:29 / ROOT/%s rw,relatime shared:9 - cgroup cgroup rw,%s", controller, controller)
}

var (
	pure1 = machine{
		mounts: []string{
			"31 23 0:28 / ROOT rw,relatime - tmpfs tmpfs rw,mode=755",
			"32 31 0:29 / ROOT/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct",
			v1Mount("cpuset"), v1Mount("memory"), v1Mount("devices"), v1Mount("freezer"), v1Mount("pids"),
			"38 23 0:5 / /proc rw - proc proc rw",
			"39 31 0:6 / ROOT/other rw - tmpfs tmpfs rw",
		},
		files: map[string]string{
			"cpu,cpuacct/cgroup.procs": "1\n", "memory/cgroup.procs": "1\n",
			"devices/cgroup.procs": "1\n", "freezer/cgroup.procs": "1\n", "pids/cgroup.procs": "1\n",
			"cpuset/cpuset.cpus": "0-3\n", "cpuset/cpuset.mems": "0\n",
		},
	}
	hybrid = machine{
		mounts: append(slices.Clone(pure1.mounts), "41 31 0:38 / ROOT/unified rw,relatime - cgroup2 cgroup2 rw"),
		files:  pure1.with(map[string]string{"unified/cgroup.controllers": "hugetlb\n", "unified/cgroup.subtree_control": "\n"}).files,
	}
	pure2 = machine{
		mounts: []string{"31 22 0:26 / ROOT rw,nosuid,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate"},
		files: map[string]string{
			"cgroup.controllers":     "cpuset cpu io memory hugetlb pids rdma misc\n",
			"cgroup.subtree_control": "memory pids\n",
			"cgroup.procs":           "2\n3\n",
		},
	}
	// container is the view of a container with a cgroup namespace.
	container = pure2.with(map[string]string{
		"cgroup.type": "domain\n", "cgroup.controllers": "cpuset cpu io memory pids\n", "cgroup.subtree_control": "\n", "cgroup.procs": "1\n",
	})
)

var _ = Describe("Control groups", func() {
	DescribeTable("can run pods",
		func(m machine) {
			found, _, err := m.write()
			Expect(err).NotTo(HaveOccurred())
			Expect(found.Check()).To(Succeed())
		},
		Entry("of version 1", pure1),
		Entry("of version 1, with an almost empty hierarchy of version 2", hybrid),
		Entry("of version 2", pure2),
		Entry("of version 2, without huge pages", pure2.with(map[string]string{"cgroup.controllers": "cpuset cpu memory pids\n"})),
		Entry("of a container that has moved its processes", container.with(map[string]string{"cgroup.procs": ""})),
		Entry("of a container whose controllers are enabled", container.with(map[string]string{
			"cgroup.subtree_control": "cpuset cpu memory pids\n", "cgroup.procs": "",
		})),
	)

	DescribeTable("cannot run pods",
		func(m machine, cause, remedy string) {
			found, root, err := m.write()
			if err == nil {
				err = found.Check()
			}
			Expect(err).To(MatchError(And(
				ContainSubstring(strings.ReplaceAll(cause, "ROOT", root)), ContainSubstring(strings.ReplaceAll(remedy, "ROOT", root)))))
		},
		Entry("without a mount", machine{mounts: []string{"38 23 0:5 / /proc rw - proc proc rw"}},
			"no control groups are mounted", "mount -t cgroup2 cgroup2 ROOT"),
		Entry("where they are mounted elsewhere", machine{mounts: []string{"38 23 0:5 / /srv/root/sys/fs/cgroup rw - cgroup2 cgroup2 rw"}},
			"no control groups are mounted", "mount -t cgroup2 cgroup2 ROOT"),
		Entry("that a later mount hides", machine{mounts: append(slices.Clone(pure1.mounts), "50 23 0:40 / ROOT rw - tmpfs tmpfs rw")},
			"no control groups are mounted", "mount -t cgroup2 cgroup2 ROOT"),
		Entry("of version 1 without some controllers",
			machine{mounts: slices.DeleteFunc(slices.Clone(hybrid.mounts), func(line string) bool {
				return strings.Contains(line, "ROOT/memory") || strings.Contains(line, "ROOT/freezer")
			}), files: hybrid.files},
			"(freezer, memory)", "mount them, or boot the kernel with the parameter cgroup_no_v1=all"),
		Entry("of version 2 whose controllers are in hierarchies of version 1",
			pure2.with(map[string]string{"cgroup.controllers": "hugetlb\n"}),
			"(cpu, cpuset, memory, pids)", "boot the kernel with the parameter cgroup_no_v1=all"),
		Entry("of version 2 without memory",
			pure2.with(map[string]string{"cgroup.controllers": "cpuset cpu io pids\n"}),
			"in ROOT lack controllers that pods need (memory)", "without cgroup_disable"),
		Entry("of a container to which the host delegates too few controllers",
			container.with(map[string]string{"cgroup.controllers": "memory pids\n", "cgroup.procs": ""}),
			"(cpu, cpuset)", "let the host delegate"),
		Entry("of a container that holds processes",
			container, "cannot enable controllers for the groups below it (cpu, cpuset, memory, pids)",
			"xargs -rn1 < ROOT/cgroup.procs > ROOT/init/cgroup.procs"),
		Entry("of an unprivileged container",
			machine{mounts: []string{"31 22 0:26 / ROOT ro,nosuid,relatime - cgroup2 cgroup rw"}, files: container.files},
			"ROOT are mounted read-only", "privileged"),
		Entry("that are unreadable", pure2.without("cgroup.controllers"), "read control groups", "cgroup.controllers"),
	)

	It("have the version that was mounted last", func() {
		covered := machine{mounts: append(slices.Clone(pure1.mounts), pure2.mounts...), files: pure2.files}
		found, root, err := covered.write()
		Expect(err).NotTo(HaveOccurred())
		Expect(found.Create(group)).To(Succeed())
		Expect(found.Existing(group)).To(Equal([]string{filepath.Join(root, group)}))
	})

	Describe("of version 1", func() {
		It("are created in every hierarchy", func() {
			found, root, err := hybrid.write()
			Expect(err).NotTo(HaveOccurred())
			Expect(found.Existing(group)).To(BeEmpty())
			Expect(found.Create(group)).To(Succeed())
			var want []string
			for _, hierarchy := range []string{"cpu,cpuacct", "cpuset", "memory", "devices", "freezer", "pids", "unified"} {
				want = append(want, filepath.Join(root, hierarchy, group))
			}
			Expect(found.Existing(group)).To(Equal(want))
			Expect(os.ReadFile(filepath.Join(root, "unified/cgroup.subtree_control"))).To(BeEquivalentTo("\n"), "not needed")
		})

		It("inherit the processors", func() {
			// The kernel creates these files with the group.
			found, root, err := pure1.with(map[string]string{
				"cpuset/larder-1/cpuset.cpus": "\n", "cpuset/larder-1/cpuset.mems": "1\n",
			}).write()
			Expect(err).NotTo(HaveOccurred())
			Expect(found.Create(group)).To(Succeed())
			Expect(os.ReadFile(filepath.Join(root, "cpuset", group, "cpuset.cpus"))).To(BeEquivalentTo("0-3\n"))
			Expect(os.ReadFile(filepath.Join(root, "cpuset", group, "cpuset.mems"))).To(BeEquivalentTo("1\n"), "existing values are kept")
		})

		It("inherit the processors automatically in a hierarchy of version 2", func() {
			found, root, err := hybrid.with(map[string]string{"unified/larder-1/cpuset.cpus": "\n"}).write()
			Expect(err).NotTo(HaveOccurred())
			Expect(found.Create(group)).To(Succeed())
			Expect(os.ReadFile(filepath.Join(root, "unified", group, "cpuset.cpus"))).To(BeEquivalentTo("\n"))
		})
	})

	Describe("of version 2", func() {
		subtreeControl := func(root, name string) string {
			GinkgoHelper()
			content, err := os.ReadFile(filepath.Join(root, name, "cgroup.subtree_control"))
			Expect(err).NotTo(HaveOccurred())
			return string(content)
		}

		It("get the missing controllers and enable all for the pods", func() {
			found, root, err := pure2.write()
			Expect(err).NotTo(HaveOccurred())
			Expect(found.Create(group)).To(Succeed())
			Expect(found.Existing(group)).To(Equal([]string{filepath.Join(root, group)}))
			Expect(subtreeControl(root, "")).To(Equal("+cpu +cpuset +hugetlb"))
			Expect(subtreeControl(root, group)).To(Equal("+cpu +cpuset +memory +pids +hugetlb"))
		})

		It("do not change a root that has enabled them", func() {
			found, root, err := container.with(map[string]string{"cgroup.subtree_control": "cpuset cpu io memory pids\n"}).write()
			Expect(err).NotTo(HaveOccurred())
			Expect(found.Create(group)).To(Succeed())
			Expect(subtreeControl(root, "")).To(Equal("cpuset cpu io memory pids\n"))
			Expect(subtreeControl(root, group)).To(Equal("+cpu +cpuset +memory +pids"))
		})
	})

	It("are removed with the groups below them", func() {
		found, root, err := hybrid.write()
		Expect(err).NotTo(HaveOccurred())
		Expect(found.Create(group)).To(Succeed())
		Expect(os.MkdirAll(filepath.Join(root, "memory", group, "kubepods", "besteffort", "pod1"), 0o750)).To(Succeed())
		Expect(os.Mkdir(filepath.Join(root, "memory", "larder-2"), 0o750)).To(Succeed())
		Expect(found.Remove(group)).To(Succeed())
		Expect(found.Existing(group)).To(BeEmpty())
		Expect(filepath.Join(root, "memory", "larder-2")).To(BeADirectory(), "it belongs to another landscape")
		Expect(found.Remove(group)).To(Succeed(), "nothing is left to remove")
	})
})
