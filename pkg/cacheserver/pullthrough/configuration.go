// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/configuration"
	registrymiddleware "github.com/distribution/distribution/v3/registry/middleware/registry"
	repositorymiddleware "github.com/distribution/distribution/v3/registry/middleware/repository"
	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"

	cacheconfig "github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/access"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/localfs"
	"github.com/larder-project/larder/pkg/credentials"
)

// Name is the name of the registry middleware, and of the storage driver that goes with it.
const Name = cacheconfig.EngineName

// engineOption passes an engine to the middleware.
const engineOption = "engine"

// Distribution looks up middlewares and drivers by name in its own tables, so they have to be registered.
func init() {
	err := registrymiddleware.Register(Name, middleware)
	err = errors.Join(err, repositorymiddleware.Register(Name, withoutEvents))
	if err != nil {
		panic(err)
	}
	factory.Register(Name, localfs.Factory{})
}

// withoutEvents is a repository middleware that unwraps Distribution's event listener, which parses every manifest even
// if there are no endpoints to notify.
func withoutEvents(_ context.Context, listened distribution.Repository, _ map[string]any) (distribution.Repository, error) {
	if name, ok := listened.Named().(ownedName); ok {
		return name.owner, nil
	}
	return listened, nil
}

func middleware(_ context.Context, local distribution.Namespace, storage driver.StorageDriver, options map[string]any) (distribution.Namespace, error) {
	if storage.Name() != filesystemDriver {
		return nil, errDriver(storage.Name())
	}
	engine, ok := options[engineOption].(*Engine)
	if !ok {
		return nil, errors.New("no engine; FromConfiguration must start it")
	}
	return &namespace{Namespace: local, engine: engine}, nil
}

const filesystemDriver = localfs.Name

func errDriver(name string) error {
	return fmt.Errorf("storage driver %q is not supported, use %q: clients read blobs from files that are still growing", name, filesystemDriver)
}

// FromConfiguration starts the engine for the proxy section of a configuration and prepares the configuration for
// handlers.NewApp. It returns nil if there is no such section. File is the path that the configuration was read from;
// if it is not empty, the engine follows changes of the credential in the proxy section. LogEvent is Options.LogEvent.
func FromConfiguration(config *configuration.Configuration, file string, logEvent func(upstream string, e event.Event)) (*Engine, error) {
	options, given, err := takeMiddleware(config)
	switch {
	case err != nil:
		return nil, err
	case config.Proxy.RemoteURL == "" && given:
		return nil, fmt.Errorf("middleware %s needs an upstream, set proxy.remoteurl", Name)
	case config.Proxy.RemoteURL == "":
		return nil, nil
	}
	if config.Storage.Type() != filesystemDriver {
		return nil, errDriver(config.Storage.Type())
	}
	o := Defaults()
	o.LogEvent = logEvent
	o.RootDirectory = rootDirectory(config.Storage.Parameters())
	o.setProxy(config.Proxy, file)
	if errs := slices.Concat(o.decode(options), o.problems(), o.accessProblems(config)); len(errs) > 0 {
		return nil, fmt.Errorf("options of middleware %s: %w", Name, oneLine(errs))
	}
	engine, err := New(o)
	if err != nil {
		return nil, fmt.Errorf("start the cache: %w", err)
	}
	engine.Install(config)
	return engine, nil
}

// accessProblems returns what is wrong with restricted access to the server that a configuration describes.
func (o Options) accessProblems(config *configuration.Configuration) []error {
	if o.Access.Mode == access.Cluster {
		return nil
	}
	var errs []error
	if config.HTTP.TLS.Certificate == "" {
		errs = append(errs, fmt.Errorf("access.mode %s needs TLS, set http.tls.certificate and http.tls.key", o.Access.Mode))
	}
	if config.HTTP.TLS.ClientAuth != "" || len(config.HTTP.TLS.ClientCAs) > 0 {
		errs = append(errs, fmt.Errorf("access.mode %s replaces http.tls.clientcas and http.tls.clientauth, remove them", o.Access.Mode))
	}
	if method := config.Auth.Type(); method != "" && method != "none" {
		errs = append(errs, fmt.Errorf("access.mode %s replaces auth.%s, remove it", o.Access.Mode, method))
	}
	return errs
}

// takeMiddleware removes the engine's entry from the configuration and returns its options, if there is one. It also
// removes all disabled entries, which Distribution would run.
func takeMiddleware(config *configuration.Configuration) (options configuration.Parameters, found bool, err error) {
	middlewares := make(map[string][]configuration.Middleware, len(config.Middleware))
	for kind, entries := range config.Middleware {
		for _, entry := range entries {
			switch {
			case entry.Disabled:
			case kind != "registry" || entry.Name != Name:
				middlewares[kind] = append(middlewares[kind], entry)
			case found:
				return nil, false, fmt.Errorf("middleware.registry: %s is listed twice, merge its options into one entry", Name)
			default:
				options, found = entry.Options, true
			}
		}
	}
	config.Middleware = middlewares
	return options, found, nil
}

// oneLine joins errors in one line, sorted.
func oneLine(errs []error) error {
	messages := make([]string, 0, len(errs))
	for _, err := range errs {
		messages = append(messages, err.Error())
	}
	slices.Sort(messages)
	return errors.New(strings.Join(messages, "; "))
}

// Install makes Distribution's application use the engine instead of its own proxy, and read the engine's files through
// the engine's storage driver. The engine is the innermost middleware, so that the others see what clients see.
func (e *Engine) Install(config *configuration.Configuration) {
	prepend := func(kind string, options configuration.Parameters) {
		if config.Middleware == nil {
			config.Middleware = map[string][]configuration.Middleware{}
		}
		m := configuration.Middleware{Name: Name, Options: options}
		config.Middleware[kind] = append([]configuration.Middleware{m}, config.Middleware[kind]...)
	}
	prepend("registry", configuration.Parameters{engineOption: e})
	if len(config.Notifications.Endpoints) == 0 {
		prepend("repository", nil)
	}
	config.Storage = e.storage(config.Storage)
	config.Proxy = configuration.Proxy{}
	if config.HTTP.Secret == "" {
		config.HTTP.Secret = rand.Text() // Distribution signs the state of uploads with it, of which a cache has none.
	}
}

// storage returns the storage section with the engine's driver in place of Distribution's.
func (e *Engine) storage(settings configuration.Storage) configuration.Storage {
	parameters := maps.Clone(settings[filesystemDriver])
	if parameters == nil {
		parameters = configuration.Parameters{}
	}
	parameters["rootdirectory"] = e.options.RootDirectory
	settings = maps.Clone(settings)
	delete(settings, filesystemDriver)
	settings[Name] = parameters
	return settings
}

func (o *Options) setProxy(proxy configuration.Proxy, file string) {
	o.RemoteURL = proxy.RemoteURL
	if proxy.TTL != nil {
		o.TTL = *proxy.TTL
	}
	if proxy.Exec != nil {
		o.Command, o.CommandLifetime = proxy.Exec.Command, proxy.Exec.Lifetime
		return
	}
	o.ConfigurationFile = file
	o.Credential = credentials.Credential{Username: proxy.Username, Password: proxy.Password}
}

// rootDirectory returns the root directory of the filesystem driver, whose default it shares.
func rootDirectory(parameters configuration.Parameters) string {
	if root, ok := parameters["rootdirectory"]; ok {
		return fmt.Sprint(root)
	}
	return cacheconfig.StorageRoot
}
