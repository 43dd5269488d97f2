// An OAuth client of one task: `oauth4webapi`, with the nonce retried as RFC 9449 says.

import { randomUUID } from 'node:crypto';
import { SignJWT, exportJWK } from 'jose';
import * as oauth from 'oauth4webapi';

export const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
export const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
export const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';
export const TYPE_JWT = 'urn:ietf:params:oauth:token-type:jwt';
const TYPE_DEFERRAL_CODE = 'urn:ietf:params:oauth:token-type:deferral-code';
export const TYPE_ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';

const insecure = { [oauth.allowInsecureRequests]: true };
/** The library wants a client id even where none is sent. */
const unnamed = { client_id: 'unnamed' };

/** The metadata, found as RFC 8414 says. */
export async function discover(issuer) {
  const url = new URL(issuer);
  const response = await oauth.discoveryRequest(url, { algorithm: 'oauth2', ...insecure });
  return oauth.processDiscoveryResponse(url, response);
}

/** A client with a key of its own. */
export class Client {
  constructor(as, keys) {
    this.as = as;
    this.keys = keys;
    this.dpop = oauth.DPoP({}, keys);
  }

  static async of(issuer) {
    return new Client(await discover(issuer), await newKeys());
  }

  /**
   * Asks the token endpoint. `auth` is how the client authenticates, by default not at all;
   * `dpop: null` asks for a bearer token.
   */
  async token(grantType, parameters, { auth = nobody, dpop = this.dpop } = {}) {
    return withNonce(async () => {
      const response = await oauth.genericTokenEndpointRequest(
        this.as, unnamed, auth, grantType, new URLSearchParams(parameters), { ...insecure, ...(dpop && { DPoP: dpop }) },
      );
      return oauth.processGenericTokenEndpointResponse(this.as, unnamed, response);
    });
  }

  /** A first credential, by a platform's token as `assertion`. */
  grant(assertion, parameters = {}, options = {}) {
    return this.token(JWT_BEARER, { assertion, ...parameters }, options);
  }

  /** A further credential, by the client's own key. */
  async renew(clientId, parameters = {}, { key = this.keys.privateKey, dpop = this.dpop, modify } = {}) {
    const client = { client_id: clientId };
    const auth = oauth.PrivateKeyJwt(key, modify && { [oauth.modifyAssertion]: modify });
    return withNonce(async () => {
      const response = await oauth.clientCredentialsGrantRequest(
        this.as, client, auth, new URLSearchParams(parameters), { ...insecure, ...(dpop && { DPoP: dpop }) },
      );
      return oauth.processClientCredentialsResponse(this.as, client, response);
    });
  }

  /** Exchanges an own token for one with less access. */
  narrow(subjectToken, parameters, options) {
    return this.token(
      EXCHANGE,
      { subject_token: subjectToken, subject_token_type: TYPE_ACCESS_TOKEN, ...parameters },
      options,
    );
  }

  /** Calls a task endpoint with a credential and a proof of its key; gives the answer's body. */
  async call(method, path, token, body) {
    const headers = new Headers(body === undefined ? {} : { 'content-type': 'application/json' });
    const text = body === undefined ? undefined : JSON.stringify(body);
    return withNonce(async () => {
      const response = await oauth.protectedResourceRequest(
        token, method, new URL(`${this.as.issuer}${path}`), headers, text, { ...insecure, DPoP: this.dpop },
      );
      const answer = await response.json();
      if (!response.ok) throw new Refusal(response.status, answer);
      return answer;
    });
  }

  /** Gives back a credential, proving to be the client by its key. */
  async revoke(token, clientId, key = this.keys.privateKey) {
    const client = { client_id: clientId };
    const response = await oauth.revocationRequest(this.as, client, oauth.PrivateKeyJwt(key), token, insecure);
    await oauth.processRevocationResponse(response);
  }

  /** Takes back a request that waits, by its code and a proof of the key that asked. */
  async takeBack(code) {
    const ask = async (nonce) => {
      const headers = { DPoP: await this.proof('POST', this.as.revocation_endpoint, nonce) };
      const response = await oauth.revocationRequest(
        this.as, unnamed, nobody, code,
        { ...insecure, headers, additionalParameters: { token_type_hint: TYPE_DEFERRAL_CODE } },
      );
      return { response, nonce: response.headers.get('dpop-nonce') };
    };
    let { response, nonce } = await ask();
    if (response.status === 400 && nonce) ({ response } = await ask(nonce));
    await oauth.processRevocationResponse(response);
  }

  /** A DPoP proof where the library makes none. */
  async proof(method, url, nonce) {
    const claims = { htm: method, htu: url, jti: randomUUID(), ...(nonce && { nonce }) };
    const { kty, crv, x, y } = await exportJWK(this.keys.publicKey);
    return new SignJWT(claims)
      .setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk: { kty, crv, x, y } })
      .setIssuedAt()
      .sign(this.keys.privateKey);
  }
}

/** A refusal that the library does not know as one: of a task endpoint, without a challenge. */
class Refusal extends Error {
  constructor(status, body) {
    super(`${status} ${body.error}: ${body.error_description}`);
    this.status = status;
    this.body = body;
  }
}

/** What a resource is told about a token. */
export async function introspect(as, name, secret, token) {
  const client = { client_id: name };
  const response = await oauth.introspectionRequest(as, client, oauth.ClientSecretBasic(secret), token, insecure);
  return oauth.processIntrospectionResponse(as, client, response);
}

export function newKeys(alg = 'ES256') {
  return oauth.generateKeyPair(alg, { extractable: true });
}

/** No client authentication: the grant speaks for itself. */
function nobody() {}

/** Client authentication by a JWT that the library did not make: a platform's token. */
export function platformAssertion(jwt) {
  return (_as, _client, body) => {
    body.set('client_assertion_type', ASSERTION_TYPE);
    body.set('client_assertion', jwt);
  };
}

/** Sends a form as it stands, for requests that no library would send. */
export async function post(url, parameters, headers = {}) {
  const response = await fetch(url, { method: 'POST', body: new URLSearchParams(parameters), headers });
  return { status: response.status, headers: response.headers, body: await jsonOf(response) };
}

export async function jsonOf(response) {
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** The one retry that a demanded nonce costs. */
async function withNonce(ask) {
  try {
    return await ask();
  } catch (error) {
    if (!oauth.isDPoPNonceError(error)) throw error;
    return ask();
  }
}

/** What a refusal says on the wire, from the error that the library throws. */
export async function refused(promise) {
  try {
    await promise;
  } catch (error) {
    const { status, body } = await refusalIn(error);
    return { status, error: body.error, rule: body.refused?.rule, field: body.refused?.field, body };
  }
  throw new Error('the request was granted and should have been refused');
}

async function refusalIn(error) {
  if (error instanceof Refusal) return error;
  if (error instanceof oauth.ResponseBodyError) return { status: error.status, body: error.cause };
  if (error instanceof oauth.WWWAuthenticateChallengeError) {
    return { status: error.response.status, body: await jsonOf(error.response) };
  }
  throw error;
}
