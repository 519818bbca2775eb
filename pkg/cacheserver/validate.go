// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd" // Guards a cache with users of its own; token authentication would need a token server beside each cache.
)

// storageDriver is the only one that the engine stores with: it hands files to the kernel, and follows them while they grow.
const storageDriver = "filesystem"

// The modules of Distribution that are linked in.
var (
	accessMethods   = []string{"", "none", "htpasswd"}
	logFormatters   = []string{"", "text", "json", "logstash", "console"}
	storageSettings = []string{"cache", "delete", "maintenance", "redirect", "tag"}
)

// validate names each field that the server cannot do as it says, and what to do about it. All of them at
// once, in one line.
func validate(config *configuration.Configuration) error {
	errs := slices.Concat(
		validateStorage(config.Storage),
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
	return errs
}

func validateAuth(auth configuration.Auth) []error {
	if method := auth.Type(); !slices.Contains(accessMethods, method) {
		return []error{fmt.Errorf("auth.%s: this access control is not built in, use htpasswd or none", method)}
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
		errs = append(errs, fmt.Errorf("http.debug.prometheus.path: %q cannot be served, set a path such as %s", path, defaultMetricsPath))
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
		errs = append(errs, errors.New("http.tls.letsencrypt: not supported, set http.tls.certificate and http.tls.key, a renewed certificate is picked up from there"))
	}
	if tls.Certificate == "" && (len(tls.ClientCAs) > 0 || tls.ClientAuth != "") {
		errs = append(errs, errors.New("http.tls.clientcas: clients have certificates only where the server has one, set http.tls.certificate and http.tls.key"))
	}
	if _, ok := tlsVersions[tls.MinimumTLS]; !ok {
		errs = append(errs, fmt.Errorf("http.tls.minimumtls: %q is not supported, set tls1.2 or tls1.3", tls.MinimumTLS))
	}
	if _, err := cipherSuites(tls.CipherSuites); err != nil {
		errs = append(errs, fmt.Errorf("http.tls.ciphersuites: %w, leave it out for those that are recommended today", err))
	}
	return errs
}

func validateProxy(proxy configuration.Proxy) []error {
	var errs []error
	remote, err := url.Parse(proxy.RemoteURL)
	switch {
	case proxy.RemoteURL == "":
		errs = append(errs, errors.New("proxy.remoteurl: missing, this server only serves as a cache, set the URL of the upstream registry"))
	case err == nil && remote.User != nil:
		errs = append(errs, errors.New("proxy.remoteurl: must not carry a user, set proxy.username and proxy.password"))
	case err != nil || remote.Host == "" || remote.Scheme != "http" && remote.Scheme != "https":
		errs = append(errs, errors.New("proxy.remoteurl: not a URL of a registry, set http(s)://host[:port]"))
	case strings.Trim(remote.Path, "/") != "":
		errs = append(errs, errors.New("proxy.remoteurl: must not have a path, set http(s)://host[:port], clients put what follows into the names of repositories"))
	case remote.RawQuery != "" || remote.Fragment != "":
		errs = append(errs, errors.New("proxy.remoteurl: must have neither a query nor a fragment, set http(s)://host[:port]"))
	}
	if (proxy.Username == "") != (proxy.Password == "") {
		errs = append(errs, errors.New("proxy: username and password belong together, set both or neither"))
	}
	if proxy.TTL != nil && *proxy.TTL < 0 {
		errs = append(errs, fmt.Errorf("proxy.ttl: %s must not be negative, set 0 to keep content for ever", *proxy.TTL))
	}
	return errs
}

func validateLog(log configuration.Log) []error {
	if !slices.Contains(logFormatters, log.Formatter) {
		return []error{fmt.Errorf("log.formatter: %q is not supported, use text, json, logstash or console", log.Formatter)}
	}
	return nil
}
