// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream

import "regexp"

// ECR is a registry of Amazon ECR.
type ECR struct {
	// Public means that the registry is the public gallery, which issues tokens in one region for all accounts.
	Public bool
	// AccountID is the account that owns a private registry.
	AccountID string
	// Region is the region of the API that issues tokens for the registry.
	Region string
	// FIPS means that the API with cryptography validated by FIPS 140 issues the tokens.
	FIPS bool
	// DualStack means that the API that also has IPv6 addresses issues the tokens.
	DualStack bool
}

// ecrPublicRegion is where the API of the public gallery is.
const ecrPublicRegion = "us-east-1"

var (
	// ecrHost matches the hosts of private registries in all partitions, with IPv4 only and with dual stack.
	ecrHost = regexp.MustCompile(
		`^(\d{12})\.dkr([.-])ecr(-fips)?\.([a-z0-9][a-z0-9-]{0,62})\.` +
			`(amazonaws\.com|amazonaws\.com\.cn|amazonaws\.eu|on\.aws|on\.amazonwebservices\.com\.cn|on\.amazonwebservices\.eu|` +
			`c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)$`)

	// ecrPublicHosts are the hosts of the public gallery, and whether they have IPv6 addresses.
	ecrPublicHosts = map[string]bool{"public.ecr.aws": false, "ecr-public.aws.com": true}
)

// ParseECR returns the registry of Amazon ECR at a host without a port, and false if the host is not one.
func ParseECR(host string) (ECR, bool) {
	if dualStack, ok := ecrPublicHosts[host]; ok {
		return ECR{Public: true, Region: ecrPublicRegion, DualStack: dualStack}, true
	}
	parts := ecrHost.FindStringSubmatch(host)
	if parts == nil {
		return ECR{}, false
	}
	return ECR{AccountID: parts[1], DualStack: parts[2] == "-", FIPS: parts[3] != "", Region: parts[4]}, true
}
