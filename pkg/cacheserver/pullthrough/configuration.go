// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/configuration"
	registrymiddleware "github.com/distribution/distribution/v3/registry/middleware/registry"
	repositorymiddleware "github.com/distribution/distribution/v3/registry/middleware/repository"
	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/localfs"
	"github.com/larder-project/larder/pkg/credentials"
)

// Name is that of the registry middleware, and of the storage driver that goes with it.
const Name = "pullthrough"

// engineOption carries an engine to the middleware.
const engineOption = "engine"

// Distribution finds middlewares and drivers by name in tables of its own, so there is no way around a registration.
func init() {
	err := registrymiddleware.Register(Name, middleware)
	err = errors.Join(err, repositorymiddleware.Register(Name, withoutEvents))
	if err != nil {
		panic(err)
	}
	factory.Register(Name, localfs.Factory{})
}

// withoutEvents is a repository middleware that removes the layer in which Distribution prepares an event for each request,
// and parses its manifest for that, even if no endpoint is notified.
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
		o, err := Parse(options)
		if err != nil {
			return nil, err
		}
		if engine, err = New(o); err != nil {
			return nil, err
		}
	}
	return &namespace{Namespace: local, engine: engine}, nil
}

const filesystemDriver = localfs.Name

func errDriver(name string) error {
	return fmt.Errorf("storage driver %q cannot be used by a cache: it needs the driver %q, since clients read blobs that are still growing", name, filesystemDriver)
}

// FromConfiguration starts the engine that a configuration asks for, by a proxy section or by options of the
// middleware, and prepares the configuration for handlers.NewApp. It returns nil if none is asked for. File is where
// the configuration came from; if it is not empty, the credential in its proxy section is followed as it changes.
func FromConfiguration(config *configuration.Configuration, file string) (*Engine, error) {
	own := -1
	options := configuration.Parameters{}
	for i, m := range config.Middleware["registry"] {
		if m.Name == Name && !m.Disabled {
			own, options = i, m.Options
		}
	}
	if own < 0 && config.Proxy.RemoteURL == "" {
		return nil, nil
	}
	if config.Storage.Type() != filesystemDriver {
		return nil, errDriver(config.Storage.Type())
	}
	o := Defaults()
	o.RootDirectory = rootDirectory(config.Storage.Parameters())
	o.takeProxy(config.Proxy, file)
	if err := o.take(options); err != nil {
		return nil, fmt.Errorf("options of middleware %s: %w", Name, err)
	}
	if config.Proxy.RemoteURL != "" && config.Proxy.RemoteURL != o.RemoteURL {
		// The credential of the proxy section is not for another upstream.
		return nil, fmt.Errorf("remoteurl of middleware %s is not that of the proxy section", Name)
	}
	engine, err := New(o)
	if err != nil {
		return nil, fmt.Errorf("starting the cache: %w", err)
	}
	install(config, engine, own)
	return engine, nil
}

// install makes Distribution use the engine, and nothing else in its place. Own is the place of the middleware in the
// configuration, or -1.
func install(config *configuration.Configuration, engine *Engine, own int) {
	if own >= 0 {
		config.Middleware["registry"] = slices.Delete(config.Middleware["registry"], own, own+1)
	}
	engine.Install(config)
}

// Install makes Distribution's application use the engine, before any other middleware, so that these see what clients
// see, and read the engine's files by its driver. Distribution's own proxy is switched off.
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
		config.HTTP.Secret = "a cache takes no uploads" // Distribution signs the state of uploads with it.
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

func (o *Options) takeProxy(proxy configuration.Proxy, file string) {
	if proxy.RemoteURL == "" {
		return
	}
	o.RemoteURL = proxy.RemoteURL
	if proxy.TTL != nil {
		o.TTL = max(*proxy.TTL, 0)
	}
	if proxy.Exec != nil {
		o.Command, o.CommandLifetime = proxy.Exec.Command, proxy.Exec.Lifetime
		return
	}
	o.ConfigurationFile = file
	o.Credential = credentials.Credential{Username: proxy.Username, Password: proxy.Password}
}

func rootDirectory(parameters configuration.Parameters) string {
	if root, ok := parameters["rootdirectory"]; ok {
		return fmt.Sprint(root)
	}
	return "/var/lib/registry" // As the driver.
}

// Parse reads options from a configuration file, see docs/cache-server.md. What they leave out has its default, what they
// name counts as it is, and unknown names are refused.
func Parse(options map[string]any) (Options, error) {
	o := Defaults()
	err := o.take(options)
	return o, err
}

// take sets what options name.
func (o *Options) take(options map[string]any) error {
	r := &reader{}
	known := o.fields(r)
	for name, value := range options {
		r.field(name, value, known)
	}
	if !r.lowGiven {
		o.LowWatermark = min(o.LowWatermark, o.HighWatermark)
	}
	return errors.Join(r.errs...)
}

// fields are how options are read, by name: a func(any), or the fields of a section.
type fields map[string]any

// fields are all that there are.
func (o *Options) fields(r *reader) fields {
	return fields{
		"remoteurl":         r.text(&o.RemoteURL),
		"rootdirectory":     r.text(&o.RootDirectory),
		"ttl":               r.duration(&o.TTL),
		"credentials":       r.text(&o.CredentialsDirectory),
		"cabundle":          r.text(&o.CABundle),
		"allowedrealms":     r.texts(&o.AllowedRealms),
		"freshness":         r.duration(&o.Freshness),
		"validationtimeout": r.duration(&o.ValidationTimeout),
		"doubtfultimeout":   r.duration(&o.SuspectTimeout),
		"graceperiod":       r.duration(&o.GracePeriod),
		"retries":           r.number(func(n float64) { o.Retries = int(n) }),
		"maxfetches":        r.number(func(n float64) { o.MaxFetches = int(n) }),
		"timeouts": fields{
			"connect":   r.duration(&o.Timeouts.Connect),
			"firstbyte": r.duration(&o.Timeouts.FirstByte),
			"idle":      r.duration(&o.Timeouts.Idle),
			"minrate":   r.number(func(n float64) { o.Timeouts.MinRate = int64(n) }),
			"client":    r.duration(&o.ClientTimeout),
		},
		"watermarks": fields{
			"high": r.number(func(n float64) { o.HighWatermark = n / 100 }),
			"low":  r.number(func(n float64) { o.LowWatermark, r.lowGiven = n/100, true }),
		},
		"scrub": fields{
			"interval": r.duration(&o.ScrubInterval),
			"rate":     r.number(func(n float64) { o.ScrubRate = int64(n) }),
		},
	}
}

// reader reads what a YAML parser made of options, and collects what is wrong with it.
type reader struct {
	path []string
	errs []error
	// lowGiven says that there is a low watermark.
	lowGiven bool
}

func (r *reader) field(name string, value any, known fields) {
	r.path = append(r.path, name)
	defer func() { r.path = r.path[:len(r.path)-1] }()
	switch field := known[name].(type) {
	case func(any):
		field(value)
	case fields:
		r.section(value, field)
	default:
		r.wrong("is unknown")
	}
}

func (r *reader) wrong(what string) {
	r.errs = append(r.errs, fmt.Errorf("%s %s", strings.Join(r.path, "."), what))
}

func (r *reader) section(value any, known fields) {
	switch section := value.(type) {
	case map[any]any:
		for name, value := range section {
			r.field(fmt.Sprint(name), value, known)
		}
	case map[string]any:
		for name, value := range section {
			r.field(name, value, known)
		}
	default:
		r.wrong("must have fields")
	}
}

func (r *reader) text(field *string) func(any) {
	return func(value any) {
		text, ok := value.(string)
		if !ok {
			r.wrong("must be a string")
		}
		*field = text
	}
}

func (r *reader) texts(field *[]string) func(any) {
	return func(value any) {
		list, ok := value.([]any)
		if !ok {
			r.wrong("must be a list")
		}
		for _, value := range list {
			*field = append(*field, fmt.Sprint(value))
		}
	}
}

func (r *reader) duration(field *time.Duration) func(any) {
	return func(value any) {
		d, err := time.ParseDuration(fmt.Sprint(value))
		if err != nil {
			r.wrong("must be a duration such as 10s")
		}
		*field = d
	}
}

func (r *reader) number(set func(float64)) func(any) {
	return func(value any) {
		n, err := strconv.ParseFloat(fmt.Sprint(value), 64)
		if err != nil || n < 0 {
			r.wrong("must be a number")
			return
		}
		set(n)
	}
}
