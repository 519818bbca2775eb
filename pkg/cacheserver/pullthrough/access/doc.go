// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package access decides which clients may read what. There are three modes:
//
//   - Cluster: every client may read everything; there is no Gate.
//   - Nodes: clients with a certificate of one of the authorities in ClientCAFile may read everything.
//   - PullSecrets: a client may read what the upstream lets it read. What the upstream serves to anyone is served to
//     anyone; for everything else, the Gate asks for a user name and a password, and asks the upstream with them.
//
// In the last two modes, a Gate stands in front of everything that serves content, and accounts of the cache itself may
// read the repositories that a file lists for them.
//
// # PullSecrets
//
// A token proves nothing, because many token services issue one without the permission that was asked for. A response
// to a request for the object itself does, if it has the form of a registry's: with a manifest, the upstream proves
// that the client may read its repository; with a blob or a list of tags, only that the client may read these, since
// some registries find a blob in whatever repository. A grant is the memory of a proof.
//
// Each decision about a client and an object has three steps:
//
//   - Look: a grant or a refusal that is remembered decides without a request.
//   - Ask: otherwise, the upstream is asked for the object. Clients that wait for the same proof share one question.
//   - Conclude: success is a grant. A refusal with status 401, 403 or 404 ends all grants of the client in the
//     repository, so that nothing can extend them, and is remembered. Any other response decides nothing.
//
// The first decision is whether anyone may read the object, without a credential. If it is not known to be public, the
// one about the client's credential follows. A client that had a grant starts with its own credential, which has proved
// to be needed. A client without a credential is challenged whatever the reason, also during an outage: container
// runtimes present one only then.
//
// A grant ends after GrantDuration; the next request then asks again, with a token that is not older. What extends it
// is an upstream that counts as down, does not respond, or responds with a server error: to at most OutageGrantDuration
// after the proof. If the upstream limits the rate of a credential's requests, a grant lasts at most three times
// GrantDuration; what was public needs a credential then. That the upstream is slow, or the cache busy, extends
// nothing, which clients could bring about.
//
// A grant for a repository covers what the cache knows to be part of it: its tags, and the manifests and blobs that
// were served from it before. Any other manifest or blob is asked for with the credential of the client that wants it,
// never with one that may see more: a registry that looks for content by digest would find that of another repository.
// So the credential of the cache itself opens nothing, and a credential of one client opens nothing for another. After
// that, the content is part of the repository, and fetched with whatever credential can pay for it.
//
// # Accounts
//
// An account reads what the cache's own credential opens: in the mode PullSecrets, the Gate asks the upstream with that
// credential, as it asks with the one of a tenant, and what only a tenant may read stays closed. The other way round, a
// blob that an account finds does not become part of its repository, see Apart: the cache's own credential may see more
// than the tenants who read the repository. In both modes, an image proves nothing about its blobs once there are
// accounts, see blobs.Options.
//
// # Credentials
//
// The Gate keeps grants by a keyed hash of the credential, with a key that ends with the process. The credentials
// themselves are kept to pay for fetches, by Guests and, with their tokens, by the client of the upstream, and dropped
// within two minutes after their grants end or their last use. They are in no error, log or metric. The header that
// carries them is removed from each request before anything else sees it.
//
// # Limits
//
// Neither a crash loop nor a client that guesses passwords may get a user, or the cluster, locked out at the upstream.
// So a refused credential is not asked about again for the repository for a minute, doubling to ten, and what the
// upstream does not accept is limited within any minute:
//
//	questions with one credential                                     3
//	credentials of one user name from one address                     5
//	credentials from one address                                     10
//	credentials of one user name                                     10 for each that is known, and at least 10
//	credentials in all                                               60
//	questions from one address about missing objects, after a login  60
//	questions from one address without a credential                  60
//	questions from one address with one known credential             60
//
// A credential is known for a day after the upstream has accepted it for some repository: it is no guess, and only the
// last limit applies to it. The accounts of the cache count as one known credential. Its questions that renew a grant
// have no limit, since one refusal ends the grant. Questions that are being asked count as refused until they end. A
// credential that was refused before gets a place only in the first half of a limit, and so does, in all and for one
// user name, an address with a refusal. So a crash loop leaves places to new credentials. Whatever the upstream
// responds counts as a refusal, with two exceptions: an outage, which counts only while the question is asked, and a
// missing object after a login that succeeded, which has a limit of its own. With a known credential, a missing object
// counts, and a rate limit does not.
//
// If the login limits the rate of requests, it is not asked about credentials from the address for at most a minute.
// Then one question at a time probes it, for another minute only with a credential that was never refused.
//
// Beyond the limit without a credential, an object does not count as public unless it did before: the client is
// challenged, or its credential asked with. At most 16 such questions are asked at a time for clients without a
// credential, and 64 for those with one, which do not wait. Clients without a credential wait for up to two seconds for
// their turn, and no longer for the response of an upstream that counts as down. At most 16 are asked at a time with
// credentials that are not known, and 48 with known ones, 16 of them with the same.
//
// The address is that of the connection: of the node, for pulls of all its pods. So a pod that shares it, in the
// network of the host or behind address translation, can hold back new credentials of the other pods there. Known ones
// it cannot, unless it has the same. Questions that the limits of an address may hold back are not shared with other
// addresses.
//
// Refusals have status 403, because containerd repeats a request with the same credential several times after a 401.
package access
