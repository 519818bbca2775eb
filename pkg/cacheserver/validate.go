// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd" // Lets a cache authenticate its own users. Token authentication would need a token server for each cache.

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/localfs"
	"github.com/larder-project/larder/pkg/upstream"
)

// storageDriver is the only driver that the engine supports: it passes files to the kernel and reads them while they
// grow.
const storageDriver = localfs.Name

// The modules of Distribution that are linked, and the settings of its storage section that are not drivers.
var (
	accessMethods   = []string{"", "none", "htpasswd"}
	logFormatters   = []string{"", "text", "json", "logstash", "console"}
	storageSettings = []string{"cache", "delete", "maintenance", "redirect", "tag"}
)

// validate returns one error, in one line, for all fields that the server does not support. It names each field and the
// remedy.
func validate(config *configuration.Configuration) error {
	errs := slices.Concat(
		validateStorage(config.Storage),
		validateMiddleware(config.Middleware),
		validateAuth(config.Auth),
		validateHTTP(config.HTTP),
		validateProxy(config.Proxy),
		validateLog(config.Log),
	)
	if len(errs) == 0 {
		return nil
	}
	messages := make([]string, 0, len(errs))
	for _, err := range errs {
		messages = append(messages, err.Error())
	}
	return errors.New(strings.Join(messages, "; "))
}

func validateStorage(storage configuration.Storage) []error {
	var errs []error
	for _, driver := range slices.Sorted(maps.Keys(storage)) {
		if driver != storageDriver && !slices.Contains(storageSettings, driver) {
			errs = append(errs, fmt.Errorf("storage.%s: this storage driver is not built in, use %s", driver, storageDriver))
		}
	}
	if root, ok := storage[storageDriver]["rootdirectory"]; ok {
		if path, _ := root.(string); path == "" {
			errs = append(errs, fmt.Errorf("storage.%s.rootdirectory: not a path, set a directory or leave it out", storageDriver))
		}
	}
	return errs
}

func validateMiddleware(middleware map[string][]configuration.Middleware) []error {
	var errs []error
	for _, kind := range slices.Sorted(maps.Keys(middleware)) {
		for i, entry := range middleware[kind] {
			if !entry.Disabled && (kind != "registry" || entry.Name != pullthrough.Name) {
				errs = append(errs, fmt.Errorf("middleware.%s[%d]: %q is not built in, remove it", kind, i, entry.Name))
			}
		}
	}
	return errs
}

func validateAuth(auth configuration.Auth) []error {
	if method := auth.Type(); !slices.Contains(accessMethods, method) {
		return []error{fmt.Errorf("auth.%s: this access controller is not built in, use htpasswd or none", method)}
	}
	return nil
}

func validateHTTP(http configuration.HTTP) []error {
	var errs []error
	if http.Net != "" && http.Net != "tcp" {
		errs = append(errs, fmt.Errorf("http.net: %q is not supported, leave it out or set tcp", http.Net))
	}
	if _, _, err := net.SplitHostPort(http.Addr); err != nil {
		errs = append(errs, fmt.Errorf("http.addr: %q is not an address, set [host]:port, such as :5000", http.Addr))
	}
	if http.Debug.Addr != "" {
		if _, _, err := net.SplitHostPort(http.Debug.Addr); err != nil {
			errs = append(errs, fmt.Errorf("http.debug.addr: %q is not an address, set [host]:port, such as :5001", http.Debug.Addr))
		}
	}
	if path := http.Debug.Prometheus.Path; path != "" && (!strings.HasPrefix(path, "/") || path == healthPath) {
		errs = append(errs, fmt.Errorf("http.debug.prometheus.path: %q is not available, set a path such as %s", path, defaultMetricsPath))
	}
	if http.DrainTimeout < 0 {
		errs = append(errs, fmt.Errorf("http.draintimeout: %s must not be negative", http.DrainTimeout))
	}
	return append(errs, validateTLS(http.TLS)...)
}

func validateTLS(tls configuration.TLS) []error {
	var errs []error
	if (tls.Certificate == "") != (tls.Key == "") {
		errs = append(errs, errors.New("http.tls: certificate and key belong together, set both or neither"))
	}
	if tls.LetsEncrypt.CacheFile != "" || tls.LetsEncrypt.Email != "" || len(tls.LetsEncrypt.Hosts) > 0 {
		errs = append(errs, errors.New("http.tls.letsencrypt: not supported, set http.tls.certificate and http.tls.key; the server reloads renewed files"))
	}
	if tls.Certificate == "" && (len(tls.ClientCAs) > 0 || tls.ClientAuth != "") {
		errs = append(errs, errors.New("http.tls.clientcas: client certificates need TLS, set http.tls.certificate and http.tls.key"))
	}
	if _, ok := tlsVersions[tls.MinimumTLS]; !ok {
		errs = append(errs, fmt.Errorf("http.tls.minimumtls: %q is not supported, set tls1.2 or tls1.3", tls.MinimumTLS))
	}
	if _, err := cipherSuites(tls.CipherSuites); err != nil {
		errs = append(errs, fmt.Errorf("http.tls.ciphersuites: %w, leave it out for the recommended ones", err))
	}
	return errs
}

func validateProxy(proxy configuration.Proxy) []error {
	var errs []error
	_, err := upstream.ParseURL(proxy.RemoteURL)
	switch {
	case proxy.RemoteURL == "":
		errs = append(errs, errors.New("proxy.remoteurl: missing, set the URL of the upstream; this server is only a cache"))
	case errors.Is(err, upstream.ErrUserInfo):
		errs = append(errs, fmt.Errorf("proxy.remoteurl: %w; set proxy.username and proxy.password", err))
	case err != nil:
		errs = append(errs, fmt.Errorf("proxy.remoteurl: %w", err))
	}
	if proxy.Exec != nil && proxy.Exec.Command == "" {
		errs = append(errs, errors.New("proxy.exec.command: missing, set the path of a Docker credential helper"))
	}
	if (proxy.Username == "") != (proxy.Password == "") {
		errs = append(errs, errors.New("proxy: username and password belong together, set both or neither"))
	}
	if proxy.TTL != nil && *proxy.TTL < 0 {
		errs = append(errs, fmt.Errorf("proxy.ttl: %s must not be negative, set 0 to keep content forever", *proxy.TTL))
	}
	return errs
}

func validateLog(log configuration.Log) []error {
	if !slices.Contains(logFormatters, log.Formatter) {
		return []error{fmt.Errorf("log.formatter: %q is not supported, use text, json, logstash or console", log.Formatter)}
	}
	return nil
}
