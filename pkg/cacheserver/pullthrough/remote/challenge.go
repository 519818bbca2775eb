// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"net/url"
	"slices"
	"strings"
)

// The schemes that the client speaks, in lower case.
const schemeBearer, schemeBasic = "bearer", "basic"

const (
	// maxChallengeHeader bounds the length of a WWW-Authenticate header; longer ones are ignored.
	maxChallengeHeader = 8 << 10
	// maxChallenges bounds the challenges of a response.
	maxChallenges = 16
)

// challenge is one of the ways to authenticate that a response offers.
type challenge struct {
	scheme                string // in lower case
	realm, service, scope string
	// endpoint is the realm as a URL, once it has been checked.
	endpoint *url.URL
}

// sameRealm reports whether both challenges lead to the same tokens.
func (c challenge) sameRealm(other challenge) bool {
	return c.scheme == other.scheme && c.realm == other.realm && c.service == other.service
}

// parseChallenges parses WWW-Authenticate headers, each of which may contain several challenges. It skips what it
// cannot parse, since that must not hide the other challenges.
func parseChallenges(headers []string) []challenge {
	var all []challenge
	for _, header := range headers {
		if len(header) > maxChallengeHeader {
			continue
		}
		all = append(all, parseChallengeHeader(header)...)
		if len(all) > maxChallenges {
			return all[:maxChallenges]
		}
	}
	return all
}

func parseChallengeHeader(header string) []challenge {
	var found []challenge
	for rest := header; ; {
		rest = strings.TrimLeft(rest, " \t,;")
		name, after := cutToken(rest)
		if name == "" {
			// A token68 or garbage: there may be a challenge after the next comma.
			_, next, more := strings.Cut(rest, ",")
			if !more {
				return found
			}
			rest = next
			continue
		}
		if value, next, ok := cutValue(after); ok {
			if len(found) > 0 {
				found[len(found)-1].set(name, value)
			}
			rest = next
			continue
		}
		found = append(found, challenge{scheme: strings.ToLower(name)})
		rest = after
	}
}

// set sets a parameter. The first one of a name counts.
func (c *challenge) set(name, value string) {
	field := map[string]*string{"realm": &c.realm, "service": &c.service, "scope": &c.scope}[strings.ToLower(name)]
	if field != nil && *field == "" {
		*field = value
	}
}

// cutToken cuts a leading token of RFC 9110 off a text.
func cutToken(s string) (token, rest string) {
	end := strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
	if end < 0 {
		return s, ""
	}
	return s[:end], s[end:]
}

// cutValue cuts the leading value of a parameter off a text. Values without quotes end at a blank or comma: some
// servers omit the quotes around URLs.
func cutValue(s string) (value, rest string, ok bool) {
	s, ok = strings.CutPrefix(strings.TrimLeft(s, " \t"), "=")
	if !ok {
		return "", "", false
	}
	s = strings.TrimLeft(s, " \t")
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, " \t,;")
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:], true
	}
	var unquoted strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return unquoted.String(), s[i+1:], true
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		unquoted.WriteByte(s[i])
	}
	return unquoted.String(), "", true
}

// maxScopes bounds the scopes of a token request.
const maxScopes = 8

// scopes returns the scopes of a token: pulling from the repository, and those of the challenge. Those of the same
// resource are merged, as token services expect it.
func scopes(c challenge, repository string) []string {
	wanted := strings.Fields(c.scope)
	if repository != "" {
		wanted = append([]string{"repository:" + repository + ":pull"}, wanted...)
	}
	var resources []string
	actions := map[string][]string{}
	for _, scope := range wanted {
		i := strings.LastIndexByte(scope, ':')
		if i < 0 || len(resources) == maxScopes {
			continue
		}
		resource := scope[:i]
		if actions[resource] == nil {
			resources = append(resources, resource)
		}
		for action := range strings.SplitSeq(scope[i+1:], ",") {
			if !slices.Contains(actions[resource], action) {
				actions[resource] = append(actions[resource], action)
			}
		}
	}
	for i, resource := range resources {
		resources[i] = resource + ":" + strings.Join(actions[resource], ",")
	}
	return resources
}
