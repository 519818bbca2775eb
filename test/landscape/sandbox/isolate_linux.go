// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/larder-project/larder/test/landscape"
)

// privateDir is a directory whose content the landscape does not share with the host.
type privateDir struct {
	path string
	// source replaces it; without one, it is an empty file system in memory.
	source string
}

// Isolate gives the namespaces of Start their own view of the machine. The first process calls it once, before it
// starts any other.
func Isolate(l *landscape.Landscape) error {
	// Mounts no longer propagate to or from the host, but pods may still receive mounts from the node.
	for _, propagation := range []uintptr{unix.MS_PRIVATE, unix.MS_SHARED} {
		if err := unix.Mount("", "/", "", unix.MS_REC|propagation, ""); err != nil {
			return fmt.Errorf("detach from the host's mounts: %w", err)
		}
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	dirs := []privateDir{
		{path: "/run"},
		{path: "/tmp"},
		{path: "/var/lib", source: filepath.Join(l.VarDir(), "lib")},
		{path: "/var/log", source: filepath.Join(l.VarDir(), "log")},
	}
	if err := mountPrivate(dirs, l.Dir(), l.Repository()); err != nil {
		return err
	}
	if err := overlayEtc(l); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(landscape.NodeName)); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil { // #nosec G306 -- not a file.
		return err
	}
	return os.Chdir(l.Repository())
}

// mountPrivate mounts the directories and keeps others visible under their paths.
func mountPrivate(dirs []privateDir, keep ...string) error {
	kept := map[string]*os.File{}
	for _, path := range keep {
		handle, err := os.OpenFile(path, unix.O_PATH, 0) // #nosec G304 -- our own directories.
		if err != nil {
			return err
		}
		defer func() { _ = handle.Close() }()
		kept[path] = handle
	}
	for _, dir := range dirs {
		var err error
		if dir.source == "" {
			err = unix.Mount("tmpfs", dir.path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "")
		} else {
			err = unix.Mount(fmt.Sprintf("/proc/self/fd/%d%s", kept[keep[0]].Fd(),
				strings.TrimPrefix(dir.source, keep[0])), dir.path, "", unix.MS_BIND, "")
		}
		if err != nil {
			return fmt.Errorf("mount %s: %w", dir.path, err)
		}
		for _, path := range keep {
			if !strings.HasPrefix(path, dir.path+"/") {
				continue
			}
			if err := bind(fmt.Sprintf("/proc/self/fd/%d", kept[path].Fd()), path); err != nil {
				return err
			}
		}
	}
	return nil
}

func bind(source, target string) error {
	if err := os.MkdirAll(target, 0o755); err != nil { // #nosec G301 -- a mount point.
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}

// overlayEtc makes /etc a private copy of the host's, for the configuration of the node at its usual paths.
func overlayEtc(l *landscape.Landscape) error {
	const path, layers = "/etc", "/run/etc"
	for _, dir := range []string{"upper", "work"} {
		if err := os.MkdirAll(filepath.Join(layers, dir), 0o755); err != nil { // #nosec G301 -- as /etc itself.
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%[1]s,upperdir=%[2]s/upper,workdir=%[2]s/work", path, layers)
	if err := unix.Mount("overlay", path, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount %s: %w", path, err)
	}

	// The configuration in the node's root is the node's configuration.
	if err := bind(filepath.Join(l.NodeRoot(), "etc", "containerd"), "/etc/containerd"); err != nil {
		return err
	}
	if err := addHost("/etc/hosts", landscape.KubernetesServiceIP, landscape.ControlPlaneHost); err != nil {
		return err
	}
	// On many machines, the file is a symbolic link.
	const resolvConf = "/etc/resolv.conf"
	if err := os.Remove(resolvConf); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.WriteFile(resolvConf, []byte("nameserver "+l.IP()+"\n"), 0o644) // #nosec G306 G703 -- a public file with a name of the landscape.
}

// addHost adds a name to a hosts file.
func addHost(path, ip, name string) error {
	content, err := os.ReadFile(path) // #nosec G304 -- the path is a constant.
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	content = fmt.Appendf(content, "\n%s %s\n", ip, name)
	return os.WriteFile(path, content, 0o644) // #nosec G306 G703 -- a public file with a name of the landscape.
}
