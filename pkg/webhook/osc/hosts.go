// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package osc

import (
	_ "embed"
	"fmt"
	"net/url"
	"path"
	"slices"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/pelletier/go-toml/v2"
)

// Caches without hosts of others have their own hosts.toml, which a unit on the node installs while the cache responds,
// and removes while it does not. See registry-cache-hosts.sh. The node agent cannot do that: it writes hosts.toml once,
// without a timeout and without a client certificate, and a cache that does not respond to its readiness probe would
// keep it from completing any change of the node.
//
// The files of the caches are outside of containerd's directory. The node agent removes the directory of an upstream
// after it has written files, when the upstream has no entry any more; and when it gets one, the node agent removes the
// files that are no longer needed after it has written the hosts.toml of the entry. The unit restores what is removed,
// and changes only files that it has written.
//
// The unit is restarted when one of its files changes, and is disabled and stopped before it is removed. The stop
// updates or removes the installed hosts.toml before the node agent removes the certificates to which they refer:
// containerd fails pulls, instead of using the upstream, if a certificate is missing.

const (
	// hostsUnitName is the name of the unit that installs hosts.toml.
	hostsUnitName = "registry-cache-hosts.service"
	// hostsScriptPath is the path of the unit's script.
	hostsScriptPath = "/opt/bin/registry-cache-hosts.sh"
	// hostsDirectory is the directory with the hosts.toml to install.
	hostsDirectory = "/etc/containerd/registry-cache/"
	// hostsListPath is the path of the list of caches. No upstream has this name, since the files of upstreams have an
	// extension.
	hostsListPath = hostsDirectory + "caches"
	// hostsMarker is the first line of an installed hosts.toml.
	hostsMarker = "# managed by " + hostsUnitName + "\n"
	// dialTimeout bounds connecting to a cache, so that the connections of a pull, one after the other, cost at most two
	// seconds until the unit has removed hosts.toml. Containerd before 2.1 ignores it.
	dialTimeout = "200ms"
	// patientDialTimeout is the bound for a cache that serves what nodes cannot pull from the upstream. It is longer than
	// the second after which the kernel repeats a lost packet: a pull that went on to the upstream would fail.
	patientDialTimeout = "1200ms"
)

// hostsUnit must not depend on the caches: the node agent restarts a unit only if it or one of its files changes.
// Systemd runs ExecStopPost whenever the script ends, even if it is killed, and never gives up restarting it.
const hostsUnit = `[Unit]
Description=Makes containerd use the registry caches while they respond
StartLimitIntervalSec=0
[Service]
ExecStart=` + hostsScriptPath + ` watch
ExecStopPost=` + hostsScriptPath + ` stop
Restart=always
RestartSec=2
MemoryMax=128M
TasksMax=256
[Install]
WantedBy=multi-user.target
`

//go:embed registry-cache-hosts.sh
var hostsScript string

// hosts is the content of a hosts.toml.
type hosts struct {
	Server string          `toml:"server"`
	Hosts  map[string]host `toml:"host"`
}

type host struct {
	Capabilities []string `toml:"capabilities"`
	CA           []string `toml:"ca,omitempty"`
	Client       string   `toml:"client,omitempty"`
	OverridePath bool     `toml:"override_path,omitempty"`
	DialTimeout  string   `toml:"dial_timeout"`
}

// connection is how containerd connects to a cache.
type connection struct {
	// client is the path of the certificate and the key that containerd presents, empty for none.
	client      string
	dialTimeout string
}

// hostsFile returns the hosts.toml of an upstream with one cache.
func hostsFile(wanted extensionsv1alpha1.RegistryConfig, connection connection) (string, error) {
	content := hosts{Server: *wanted.Server, Hosts: map[string]host{}}
	for _, cache := range wanted.Hosts {
		entry := host{CA: cache.CACerts, Client: connection.client, DialTimeout: connection.dialTimeout}
		for _, capability := range cache.Capabilities {
			entry.Capabilities = append(entry.Capabilities, string(capability))
		}
		content.Hosts[cache.URL] = entry
	}
	data, err := toml.Marshal(content)
	if err != nil {
		return "", fmt.Errorf("encode hosts.toml of %s: %w", wanted.Upstream, err)
	}
	return hostsMarker + string(data), nil
}

// ownHosts are the caches whose hosts.toml is installed by the unit.
type ownHosts struct {
	list  string
	files []extensionsv1alpha1.File
}

// add adds the only cache of an upstream.
func (o *ownHosts) add(wanted extensionsv1alpha1.RegistryConfig, connection connection) error {
	endpoint, err := url.Parse(wanted.Hosts[0].URL)
	if err != nil {
		return fmt.Errorf("parse endpoint of the registry cache for %s: %w", wanted.Upstream, err)
	}
	content, err := hostsFile(wanted, connection)
	if err != nil {
		return err
	}
	o.list += fmt.Sprintln(wanted.Upstream, endpoint.Hostname(), endpoint.Port())
	o.files = append(o.files, newTextFile(hostsDirectory+wanted.Upstream+".toml", filePermissions, content))
	return nil
}

// all returns the unit with all of its files, or none if there are no caches.
func (o *ownHosts) all() ([]extensionsv1alpha1.Unit, []extensionsv1alpha1.File) {
	if len(o.files) == 0 {
		return nil, nil
	}
	files := append([]extensionsv1alpha1.File{
		newTextFile(hostsScriptPath, scriptPermissions, hostsScript),
		newTextFile(hostsListPath, filePermissions, o.list),
	}, o.files...)
	unit := extensionsv1alpha1.Unit{Name: hostsUnitName, Enable: new(true), Content: new(hostsUnit)}
	for _, file := range files {
		unit.FilePaths = append(unit.FilePaths, file.Path)
	}
	return []extensionsv1alpha1.Unit{unit}, files
}

func newTextFile(path string, permissions uint32, content string) extensionsv1alpha1.File {
	return extensionsv1alpha1.File{
		Path:        path,
		Permissions: new(permissions),
		Content:     extensionsv1alpha1.FileContent{Inline: &extensionsv1alpha1.FileContentInline{Data: content}},
	}
}

// isHostsFile reports whether a file is one of the unit's.
func isHostsFile(name string) bool {
	return name == hostsScriptPath || path.Dir(name) == path.Clean(hostsDirectory)
}

// setUnits replaces the unit, or removes it if there is none.
func setUnits(osc *extensionsv1alpha1.OperatingSystemConfig, units []extensionsv1alpha1.Unit) {
	osc.Spec.Units = slices.DeleteFunc(osc.Spec.Units, func(unit extensionsv1alpha1.Unit) bool { return unit.Name == hostsUnitName })
	osc.Spec.Units = append(osc.Spec.Units, units...)
}
