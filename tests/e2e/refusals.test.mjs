// What must be refused, each with the error that clients know: requests, audiences, types, keys and callers.

import assert from 'node:assert/strict';
import { request as rawRequest } from 'node:http';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { SignJWT, exportJWK } from 'jose';
import * as oauth from 'oauth4webapi';
import { ARTIFACTS, SECRET, startDayfly } from './lib/dayfly.mjs';
import {
  ASSERTION_TYPE, Client, EXCHANGE, JWT_BEARER, TYPE_ACCESS_TOKEN, TYPE_JWT,
  introspect, jsonOf, newKeys, platformAssertion, post, refused,
} from './lib/client.mjs';
import { startPlatform } from './lib/platform.mjs';

let platform;
let dayfly;

before(async () => {
  platform = await startPlatform();
  dayfly = await startDayfly(platform);
});
after(async () => {
  await dayfly?.stop();
  await platform?.close();
});

const here = () => dayfly.issuer('plain');
const endpoint = () => `${here()}/token`;
const now = () => Math.floor(Date.now() / 1000);

async function opened() {
  const client = await Client.of(here());
  const proof = await platform.token(platform.run(), { aud: here() });
  return { client, proof, granted: await client.grant(proof, { resource: ARTIFACTS }) };
}

/** A DPoP proof, with header and claims as the test wants them. */
async function proofBy(keys, { claims = {}, header = {} } = {}) {
  const payload = { jti: crypto.randomUUID(), htm: 'POST', htu: endpoint(), iat: now(), ...claims };
  for (const [name, value] of Object.entries(payload)) if (value === undefined) delete payload[name];
  const jwk = await exportJWK(keys.publicKey);
  return new SignJWT(payload).setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk, ...header }).sign(keys.privateKey);
}

/** A JWT that no signing library would make. */
function unsigned(header, payload, signature = '') {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part(header)}.${part(payload)}.${signature}`;
}

/** A grant with this DPoP header. */
async function grantWith(dpop, assertion) {
  const jwt = assertion ?? await platform.token(platform.run(), { aud: here() });
  return post(endpoint(), { grant_type: JWT_BEARER, assertion: jwt, resource: ARTIFACTS }, dpop && { dpop });
}

test('the token endpoint takes forms by POST alone', async () => {
  assert.equal((await fetch(endpoint())).status, 405);
  const json = await fetch(endpoint(), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ grant_type: 'client_credentials' }),
  });
  assert.equal(json.status, 400);
  assert.equal(json.headers.get('cache-control'), 'no-store');
  const body = await json.json();
  assert.equal(body.error, 'invalid_request');
  assert.equal(body.refused.rule, 'content_type');
  assert.match(body.refusal, /^ref_[0-7][0-9a-hjkmnp-tv-z]{25}$/);
});

test('malformed forms are refused', async () => {
  const form = { 'content-type': 'application/x-www-form-urlencoded' };
  const send = async (body, headers = form) => {
    const response = await fetch(endpoint(), { method: 'POST', headers, body });
    return { status: response.status, body: await jsonOf(response) };
  };
  for (const [sent, status, rule] of [
    ['grant_type=client_credentials&scope=a&scope=b', 400, 'repeated_parameter'],
    ['grant_type=client_credentials&grant_type=client_credentials', 400, 'repeated_parameter'],
    ['grant_type=%ff', 400, 'encoding'],
    ['grant_type=%zz', 400, 'encoding'],
    [Buffer.from([0x67, 0xff, 0x3d, 0x31]), 400, 'encoding'],
    ['', 400, 'missing_parameter'],
    ['grant_type=', 400, 'missing_parameter'],
    ['grant_type=password&username=a&password=b', 400, 'grant_type'],
    ['grant_type=authorization_code&code=a', 400, 'grant_type'],
    [`grant_type=client_credentials&pad=${'x'.repeat(65_536)}`, 413, 'body_size'],
  ]) {
    const answer = await send(sent);
    assert.equal(answer.status, status, `${sent}`.slice(0, 60));
    assert.equal(answer.body.refused.rule, rule, `${sent}`.slice(0, 60));
  }
  const typeless = await send(Buffer.from('grant_type=client_credentials'), {});
  assert.equal(typeless.body.refused.rule, 'content_type');
});

test('one way of client authentication, and never a secret', async () => {
  const jwt = await platform.token(platform.run(), { aud: here() });
  const form = {
    grant_type: 'client_credentials', client_assertion_type: ASSERTION_TYPE, client_assertion: jwt, resource: ARTIFACTS,
  };
  const two = await post(endpoint(), { ...form, client_secret: 'x' });
  assert.equal(two.status, 400);
  assert.equal(two.body.refused.rule, 'several_authentications');
  const basic = { authorization: `Basic ${Buffer.from('a:b').toString('base64')}` };
  const both = await post(endpoint(), form, basic);
  assert.equal(both.body.refused.rule, 'several_authentications');
  const secret = await post(endpoint(), { grant_type: 'client_credentials' }, basic);
  assert.equal(secret.status, 401);
  assert.equal(secret.body.error, 'invalid_client');
  assert.match(secret.headers.get('www-authenticate'), /^Basic/);
  const half = await post(endpoint(), { ...form, client_assertion_type: '' });
  assert.equal(half.body.error, 'invalid_client');
});

test('a client assertion is for the issuer alone, a grant may name the token endpoint', async () => {
  const client = await Client.of(here());
  const asClient = (jwt) => client.token('client_credentials', { resource: ARTIFACTS }, { auth: platformAssertion(jwt) });
  const ofRun = (aud) => platform.token(platform.run(), { aud });

  const toEndpoint = await ofRun(endpoint());
  const first = await refused(asClient(toEndpoint));
  assert.equal(first.error, 'invalid_client');
  assert.equal(first.rule, 'audience');
  const granted = await client.grant(toEndpoint, { resource: ARTIFACTS });
  assert.equal(granted.token_type, 'dpop');

  for (const aud of [[here(), 'https://other.example'], 'https://other.example', [], undefined]) {
    const byClient = await refused(asClient(await ofRun(aud)));
    assert.equal(byClient.error, 'invalid_client', `${aud}`);
    const byGrant = await refused(client.grant(await ofRun(aud), { resource: ARTIFACTS }));
    assert.equal(byGrant.error, 'invalid_grant', `${aud}`);
  }
  const sole = await asClient(await ofRun([here()]));
  assert.equal(sole.token_type, 'dpop');
  const slash = await client.grant(await ofRun(`${here()}/`), { resource: ARTIFACTS });
  assert.equal(slash.token_type, 'dpop');

  // The same for the client's own assertion.
  const own = granted.client_id;
  for (const aud of [endpoint(), [here(), 'https://other.example'], 'https://other.example']) {
    const modify = (_header, payload) => { payload.aud = aud; };
    const renewal = await refused(client.renew(own, { resource: ARTIFACTS }, { modify }));
    assert.equal(renewal.error, 'invalid_client', `${aud}`);
  }
  const keep = {};
  const remember = (_header, payload) => { Object.assign(payload, keep); Object.assign(keep, { jti: payload.jti, iat: payload.iat, exp: payload.exp }); };
  await client.renew(own, { resource: ARTIFACTS }, { modify: remember });
  const replayed = await refused(client.renew(own, { resource: ARTIFACTS }, { modify: remember }));
  assert.equal(replayed.rule, 'assertion_spent');
  const stranger = await refused(client.renew(own, { resource: ARTIFACTS }, { key: (await newKeys()).privateKey, dpop: null }));
  assert.equal(stranger.error, 'invalid_client');
});

test('no kind of jwt passes for another', async () => {
  const client = await Client.of(here());
  const { granted, client: holder } = await opened();
  for (const typ of ['at+jwt', 'secevent+jwt', 'statuslist+jwt', 'oauth-id-jag+jwt', 'txntoken+jwt', 'dpop+jwt', 'application/logout+jwt']) {
    const jwt = () => platform.token(platform.run(), { aud: here() }, { typ });
    const byGrant = await refused(client.grant(await jwt(), { resource: ARTIFACTS }));
    assert.deepEqual([byGrant.error, byGrant.rule], ['invalid_grant', 'token_type'], typ);
    const byClient = await refused(
      client.token('client_credentials', { resource: ARTIFACTS }, { auth: platformAssertion(await jwt()) }),
    );
    assert.deepEqual([byClient.error, byClient.rule], ['invalid_client', 'token_type'], typ);
    const bySubject = await refused(
      client.token(EXCHANGE, { subject_token: await jwt(), subject_token_type: TYPE_JWT, resource: ARTIFACTS }),
    );
    assert.deepEqual([bySubject.error, bySubject.rule], ['invalid_request', 'token_type'], typ);
    const modify = (header) => { header.typ = typ; };
    const own = await refused(holder.renew(granted.client_id, { resource: ARTIFACTS }, { modify }));
    assert.equal(own.error, 'invalid_client', typ);
  }
  const notOurs = await platform.token(platform.run(), { aud: here(), client_id: 'x' }, { typ: 'at+jwt' });
  const bearer = await fetch(`${here()}/tasks/${granted.task}`, { headers: { authorization: `Bearer ${notOurs}` } });
  assert.equal(bearer.status, 401);
  assert.match(bearer.headers.get('www-authenticate'), /^DPoP error="invalid_token"/);
  // An own token is no proof of a platform, and a platform's token is no own token.
  const own = await refused(client.grant(granted.access_token, { resource: ARTIFACTS }));
  assert.equal(own.error, 'invalid_grant');
  const foreign = await refused(client.token(EXCHANGE, {
    subject_token: notOurs, subject_token_type: TYPE_ACCESS_TOKEN, resource: ARTIFACTS,
  }));
  assert.equal(foreign.error, 'invalid_request');
  assert.deepEqual(await introspect(client.as, 'artifacts', SECRET, notOurs), { active: false });
});

test('a dpop proof is for one request, by one key, once', async () => {
  const keys = await newKeys();
  const { privateKey, publicKey } = keys;
  const payload = { jti: 'a', htm: 'POST', htu: endpoint(), iat: now() };
  const publicJwk = await exportJWK(publicKey);
  const traps = {
    'private key in jwk': await proofBy(keys, { header: { jwk: await exportJWK(privateKey) } }),
    'no jwk': await proofBy(keys, { header: { jwk: undefined } }),
    'alg none': unsigned({ alg: 'none', typ: 'dpop+jwt', jwk: publicJwk }, payload),
    'alg HS256': unsigned({ alg: 'HS256', typ: 'dpop+jwt', jwk: publicJwk }, payload, 'AAAA'),
    'typ JWT': await proofBy(keys, { header: { typ: 'JWT' } }),
    'htu of another host': await proofBy(keys, { claims: { htu: 'http://other.example/plain/token' } }),
    'htu of another path': await proofBy(keys, { claims: { htu: `${here()}/introspect` } }),
    'htm of another method': await proofBy(keys, { claims: { htm: 'GET' } }),
    'old iat': await proofBy(keys, { claims: { iat: now() - 400 } }),
    'iat ahead': await proofBy(keys, { claims: { iat: now() + 120 } }),
    'no jti': await proofBy(keys, { claims: { jti: undefined } }),
    'key of another': await proofBy({ publicKey, privateKey: (await newKeys()).privateKey }),
    'not a jwt': 'x',
  };
  for (const [name, dpop] of Object.entries(traps)) {
    const answer = await grantWith(dpop);
    assert.equal(answer.status, 400, name);
    assert.equal(answer.body.error, 'invalid_dpop_proof', name);
    assert.equal(answer.body.refused.stage, 'binding', name);
  }
  const foreignNonce = await grantWith(await proofBy(keys, { claims: { nonce: 'x' } }));
  assert.equal(foreignNonce.body.error, 'use_dpop_nonce');

  const once = await proofBy(keys);
  assert.equal((await grantWith(once)).status, 200);
  const replayed = await grantWith(once);
  assert.equal(replayed.body.refused.rule, 'dpop_replayed');
});

test('two dpop headers are refused', async () => {
  const keys = await newKeys();
  const assertion = await platform.token(platform.run(), { aud: here() });
  const request = rawRequest(endpoint(), {
    method: 'POST',
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      dpop: [await proofBy(keys), await proofBy(keys)],
    },
  });
  request.end(new URLSearchParams({ grant_type: JWT_BEARER, assertion, resource: ARTIFACTS }).toString());
  const [response] = await once(request, 'response');
  const chunks = await response.toArray();
  assert.equal(response.statusCode, 400);
  assert.equal(JSON.parse(Buffer.concat(chunks)).error, 'invalid_dpop_proof');
});

test('a bound credential is of no use without its key', async () => {
  const { client, granted } = await opened();
  const path = `${here()}/tasks/${granted.task}`;
  const ask = async (authorization, dpop) => {
    const response = await fetch(path, { headers: { authorization, ...(dpop && { dpop }) } });
    return { status: response.status, body: await response.json() };
  };
  const bearer = await ask(`Bearer ${granted.access_token}`);
  assert.equal(bearer.status, 401);
  assert.equal(bearer.body.refused.rule, 'dpop_missing');
  assert.equal((await ask(`DPoP ${granted.access_token}`)).body.refused.rule, 'dpop_missing');

  const about = { htm: 'GET', htu: path };
  const wrongHash = await proofBy(client.keys, { claims: { ...about, ath: 'AAAA' } });
  assert.equal((await ask(`DPoP ${granted.access_token}`, wrongHash)).body.refused.rule, 'dpop');
  const headers = new Headers();
  await oauth.DPoP({}, await newKeys()).addProof(new URL(path), headers, 'GET', granted.access_token);
  assert.equal((await ask(`DPoP ${granted.access_token}`, headers.get('dpop'))).body.refused.rule, 'other_key');

  const thief = new Client(client.as, await newKeys());
  const narrowed = await refused(thief.narrow(granted.access_token, { resource: ARTIFACTS }));
  assert.equal(narrowed.error, 'invalid_dpop_proof');
  const unproven = await refused(client.narrow(granted.access_token, { resource: ARTIFACTS }, { dpop: null }));
  assert.equal(unproven.rule, 'dpop_missing');
  const actor = await refused(client.narrow(granted.access_token, { resource: ARTIFACTS, actor_token: granted.access_token }));
  assert.equal(actor.error, 'invalid_request');
  const unrevoked = await post(client.as.revocation_endpoint, { token: granted.access_token });
  assert.equal(unrevoked.status, 401);
  assert.equal((await introspect(client.as, 'artifacts', SECRET, granted.access_token)).active, true);
});

test('introspection is for the audience alone', async () => {
  const { client, granted } = await opened();
  const foreign = await introspect(client.as, 'deploy', 'of-the-deployer', granted.access_token);
  assert.deepEqual(foreign, { active: false });
  assert.deepEqual(await introspect(client.as, 'artifacts', SECRET, 'x'), { active: false });
  for (const [name, secret] of [['artifacts', 'wrong'], ['nobody', SECRET], ['deploy', SECRET]]) {
    const answer = await refused(introspect(client.as, name, secret, granted.access_token));
    assert.equal(answer.status, 401, name);
    assert.equal(answer.error, 'invalid_client', name);
  }
  const unauthenticated = await post(client.as.introspection_endpoint, { token: granted.access_token });
  assert.equal(unauthenticated.status, 401);
  const posted = await post(client.as.introspection_endpoint, {
    token: granted.access_token, client_id: 'artifacts', client_secret: SECRET,
  });
  assert.equal(posted.body.active, true);
});

test('nobody reads or ends the task of another', async () => {
  const mine = await opened();
  const other = await opened();
  for (const [method, path, body] of [
    ['GET', `/tasks/${other.granted.task}`],
    ['GET', `/tasks/${other.granted.task}/receipt`],
    ['POST', `/tasks/${other.granted.task}/heartbeat`],
    ['POST', `/tasks/${other.granted.task}/end`, { outcome: 'cancelled' }],
    ['POST', `/clients/${other.granted.client_id}/end`, { outcome: 'cancelled' }],
  ]) {
    const answer = await refused(mine.client.call(method, path, mine.granted.access_token, body));
    assert.deepEqual([answer.status, answer.rule], [404, 'not_found'], path);
  }
  const unclear = await refused(
    mine.client.call('POST', `/tasks/${mine.granted.task}/end`, mine.granted.access_token, { outcome: 'won' }),
  );
  assert.equal(unclear.status, 400);
});

test('only runs that a workload matches get in', async () => {
  const client = await Client.of(here());
  const enter = async (claims, overrides, header) =>
    refused(client.grant(await platform.token(platform.run(claims), { aud: here(), ...overrides }, header), { resource: ARTIFACTS }));
  for (const [claims, rule] of [
    [{ event_name: 'pull_request', ref: 'refs/pull/1/merge' }, 'no_workload'],
    [{ event_name: 'pull_request_target' }, 'no_workload'],
    [{ repository_id: '1', sub: 'x' }, 'no_workload'],
    [{ ref: 'refs/heads/other' }, 'no_workload'],
    [{ sub: 'repo:octo-org@583231/octo-repo@9:ref:refs/heads/main' }, 'claim_form'],
    [{ check_run_id: undefined }, 'task_key'],
    [{ run_id: 'seven' }, 'claim_form'],
    [{ run_attempt: undefined }, 'claim_missing'],
  ]) {
    assert.equal((await enter(claims)).rule, rule, JSON.stringify(claims));
  }
  assert.equal((await enter({}, { exp: now() - 120 })).rule, 'times');
  assert.equal((await enter({}, { iat: now() - 7200, nbf: now() - 7200 })).rule, 'proof_age');
  assert.equal((await enter({}, { nbf: now() + 600 })).rule, 'times');
  assert.equal((await enter({}, { iss: 'https://elsewhere.example' })).rule, 'issuer');
  assert.equal((await enter({}, {}, { kid: 'unknown' })).rule, 'key');
  const named = await refused(client.grant(
    await platform.token(platform.run(), { aud: here() }), { resource: ARTIFACTS, client_id: 'nightly' },
  ));
  assert.equal(named.rule, 'claim_mismatch');
});
