// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/go-viper/mapstructure/v2"
)

// settings maps the names of options in a configuration file to the fields of Options. The decoder writes through the
// pointers; an option that is absent or null keeps its default.
type settings struct {
	CredentialsDirectory  *string                 `option:"credentials"`
	RepositoryCredentials *[]RepositoryCredential `option:"repositorycredentials"`
	CABundle              *string                 `option:"cabundle"`
	ClientCertificate     keyPair                 `option:"clientcertificate"`
	ForwardProxy          forwardProxy            `option:"forwardproxy"`
	AllowedRealms         *[]string               `option:"allowedrealms"`
	Freshness             *time.Duration          `option:"freshness"`
	ValidationTimeout     *time.Duration          `option:"validationtimeout"`
	SuspectTimeout        *time.Duration          `option:"suspecttimeout"`
	GracePeriod           *time.Duration          `option:"graceperiod"`
	Retries               *int                    `option:"retries"`
	MaxFetches            *int                    `option:"maxfetches"`
	Access                accessOptions           `option:"access"`
	Timeouts              timeouts                `option:"timeouts"`
	Watermarks            watermarks              `option:"watermarks"`
	Scrub                 scrub                   `option:"scrub"`
	Unknown               map[string]any          `option:",remain"`
}

// keyPair are the paths of a certificate and its key.
type keyPair struct {
	Certificate *string        `option:"certificate"`
	Key         *string        `option:"key"`
	Unknown     map[string]any `option:",remain"`
}

type forwardProxy struct {
	UsernameFile *string        `option:"usernamefile"`
	PasswordFile *string        `option:"passwordfile"`
	Unknown      map[string]any `option:",remain"`
}

type accessOptions struct {
	Mode                *string        `option:"mode"`
	GrantDuration       *time.Duration `option:"grantduration"`
	OutageGrantDuration *time.Duration `option:"outagegrantduration"`
	ClientCAFile        *string        `option:"clientcafile"`
	AccountsFile        *string        `option:"accountsfile"`
	DebugTokenFile      *string        `option:"debugtokenfile"`
	Unknown             map[string]any `option:",remain"`
}

type timeouts struct {
	Connect   *time.Duration `option:"connect"`
	FirstByte *time.Duration `option:"firstbyte"`
	Idle      *time.Duration `option:"idle"`
	MinRate   *int64         `option:"minrate"`
	Client    *time.Duration `option:"client"`
	Unknown   map[string]any `option:",remain"`
}

// watermarks are percentages. They stay nil if the file does not set them.
type watermarks struct {
	High    *float64       `option:"high"`
	Low     *float64       `option:"low"`
	Unknown map[string]any `option:",remain"`
}

type scrub struct {
	Interval *time.Duration `option:"interval"`
	Rate     *int64         `option:"rate"`
	Unknown  map[string]any `option:",remain"`
}

func (o *Options) settings() *settings {
	return &settings{
		CredentialsDirectory:  &o.CredentialsDirectory,
		RepositoryCredentials: &o.RepositoryCredentials,
		CABundle:              &o.Connection.CABundle,
		ClientCertificate:     keyPair{Certificate: &o.Connection.ClientCertificate, Key: &o.Connection.ClientKey},
		ForwardProxy:          forwardProxy{UsernameFile: &o.Connection.ProxyUsername, PasswordFile: &o.Connection.ProxyPassword},
		AllowedRealms:         &o.AllowedRealms,
		Freshness:             &o.Freshness,
		ValidationTimeout:     &o.ValidationTimeout,
		SuspectTimeout:        &o.SuspectTimeout,
		GracePeriod:           &o.GracePeriod,
		Retries:               &o.Retries,
		MaxFetches:            &o.MaxFetches,
		Access: accessOptions{
			Mode:                (*string)(&o.Access.Mode),
			GrantDuration:       &o.Access.GrantDuration,
			OutageGrantDuration: &o.Access.OutageGrantDuration,
			ClientCAFile:        &o.Access.ClientCAFile,
			AccountsFile:        &o.Access.AccountsFile,
			DebugTokenFile:      &o.Access.DebugTokenFile,
		},
		Timeouts: timeouts{
			Connect:   &o.Timeouts.Connect,
			FirstByte: &o.Timeouts.FirstByte,
			Idle:      &o.Timeouts.Idle,
			MinRate:   &o.Timeouts.MinRate,
			Client:    &o.ClientTimeout,
		},
		Scrub: scrub{Interval: &o.ScrubInterval, Rate: &o.ScrubRate},
	}
}

// moved maps options that would contradict another section of the file to the field of that section.
var moved = map[string]string{
	"remoteurl":     "proxy.remoteurl",
	"ttl":           "proxy.ttl",
	"rootdirectory": "storage.filesystem.rootdirectory",
}

// decode sets the options that a configuration file names. It returns everything that is wrong with them.
func (o *Options) decode(options map[string]any) []error {
	s := o.settings()
	decoder, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result:     s,
		TagName:    "option",
		MatchName:  func(name, option string) bool { return name == option },
		DecodeHook: convert,
	})
	if err != nil {
		return []error{err}
	}
	errs := decodeErrors(decoder.Decode(options))
	for section, unknown := range map[string]map[string]any{
		"": s.Unknown, "clientcertificate.": s.ClientCertificate.Unknown, "forwardproxy.": s.ForwardProxy.Unknown,
		"access.": s.Access.Unknown, "timeouts.": s.Timeouts.Unknown, "watermarks.": s.Watermarks.Unknown, "scrub.": s.Scrub.Unknown,
	} {
		for name := range unknown {
			name = section + name
			if field, ok := moved[name]; ok {
				errs = append(errs, fmt.Errorf("%s is not an option, set %s", name, field))
			} else {
				errs = append(errs, fmt.Errorf("%s is not an option, correct its name or remove it", name))
			}
		}
	}
	if high := s.Watermarks.High; high != nil {
		o.HighWatermark = *high / 100
	}
	if low := s.Watermarks.Low; low != nil {
		o.LowWatermark = *low / 100
	} else {
		o.LowWatermark = min(o.LowWatermark, o.HighWatermark)
	}
	return errs
}

// decodeErrors splits what the decoder returns into the errors of single options, each with the option's full name.
func decodeErrors(err error) []error {
	type joined interface {
		error
		Unwrap() []error
	}
	if all, ok := errors.AsType[joined](err); ok {
		errs := make([]error, 0, len(all.Unwrap()))
		for _, one := range all.Unwrap() {
			errs = append(errs, decodeErrors(one)...)
		}
		return errs
	}
	if option, ok := errors.AsType[*mapstructure.DecodeError](err); ok {
		return []error{fmt.Errorf("%s %w", option.Name(), option.Unwrap())}
	}
	if err != nil {
		return []error{err}
	}
	return nil
}

// convert is a decode hook that converts durations and numbers, also those written as strings, and refuses other values
// of the wrong type.
func convert(from, to reflect.Value) (any, error) {
	text := fmt.Sprint(from.Interface())
	switch to.Interface().(type) {
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, errors.New("must be a duration, such as 10s")
		}
		return d, nil
	case int, int64:
		const exact = 1 << 53
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || n != math.Trunc(n) || math.Abs(n) > exact {
			return nil, errors.New("must be a whole number")
		}
		return int64(n), nil
	case float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, errors.New("must be a number")
		}
		return n, nil
	case string:
		if from.Kind() != reflect.String {
			return nil, errors.New("must be a string")
		}
	case []string:
		if from.Kind() != reflect.Slice {
			return nil, errors.New("must be a list of strings")
		}
	case []RepositoryCredential:
		if from.Kind() != reflect.Slice {
			return nil, errors.New("must be a list of sections")
		}
	case keyPair, forwardProxy, accessOptions, timeouts, watermarks, scrub, RepositoryCredential:
		if from.Kind() != reflect.Map || slices.ContainsFunc(from.MapKeys(), notString) {
			return nil, errors.New("must be a section with options of its own")
		}
	}
	return from.Interface(), nil
}

func notString(value reflect.Value) bool {
	_, ok := value.Interface().(string)
	return !ok
}
