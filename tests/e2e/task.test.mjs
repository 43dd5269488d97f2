// One whole task of one client, from discovery to the receipt, against a real server.

import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import * as oauth from 'oauth4webapi';
import { ARTIFACTS, DEPLOY, SECRET, run, startDayfly } from './lib/dayfly.mjs';
import { Client, EXCHANGE, TYPE_JWT, introspect, newKeys, platformAssertion, post, refused } from './lib/client.mjs';
import { startPlatform } from './lib/platform.mjs';

const PUBLISH = [{ type: 'artifact', actions: ['publish'], identifier: 'octo-repo/app' }];
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

const here = (tenant = 'strict') => dayfly.issuer(tenant);
const bodyOf = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));

/** A client that holds a credential for `artifacts`. */
async function opened(tenant = 'strict', parameters = { resource: ARTIFACTS }) {
  const client = await Client.of(here(tenant));
  const proof = await platform.token(platform.run(), { aud: here(tenant) });
  const granted = await client.grant(proof, parameters);
  return { client, proof, granted };
}

test('metadata is found in all three places and names only this server', async () => {
  const issuer = here();
  const url = new URL(issuer);
  const insecure = { [oauth.allowInsecureRequests]: true };
  const found = [];
  for (const response of [
    await oauth.discoveryRequest(url, { algorithm: 'oauth2', ...insecure }),
    await oauth.discoveryRequest(url, { algorithm: 'oidc', ...insecure }),
    await fetch(`${dayfly.url}/.well-known/openid-configuration/strict`),
  ]) {
    assert.match(response.headers.get('content-type'), /^application\/json/);
    found.push(await oauth.processDiscoveryResponse(url, response));
  }
  assert.deepEqual(found[1], found[0]);
  assert.deepEqual(found[2], found[0]);
  const [metadata] = found;
  assert.equal(metadata.issuer, issuer);
  for (const [name, value] of Object.entries(metadata)) {
    if (name.endsWith('_endpoint') || name === 'jwks_uri') assert.ok(value.startsWith(`${issuer}/`), name);
  }
  assert.deepEqual(metadata.dayfly_resources, { artifacts: ARTIFACTS, deploy: DEPLOY });
  const { status, body } = await post(metadata.authorization_endpoint, { response_type: 'code' });
  assert.equal(status, 400);
  assert.equal(body.error, 'unauthorized_client');
});

test('a task from its first credential to its receipt', async () => {
  const client = await Client.of(here());
  const workflow = platform.run();
  const proof = await platform.token(workflow, { aud: here() });
  const ask = { resource: ARTIFACTS, authorization_details: JSON.stringify(PUBLISH), client_id: 'release' };

  const granted = await client.grant(proof, ask);
  assert.equal(granted.token_type, 'dpop');
  assert.match(granted.task, /^task_[0-7][0-9a-hjkmnp-tv-z]{25}$/);
  assert.equal(granted.client_id, `${granted.task.replace('task_', 'client_')}_1`);
  assert.deepEqual(granted.authorization_details, [{ ...PUBLISH[0], locations: [ARTIFACTS] }]);
  assert.ok(granted.expires_in <= 300);
  assert.ok(granted.task_expires_at <= Date.now() / 1000 + 3601);

  // What a resource does: verify the token and its key by itself.
  const request = new Request(`${ARTIFACTS}/upload`, { method: 'PUT' });
  const headers = new Headers({ authorization: `DPoP ${granted.access_token}` });
  await oauth.DPoP({}, client.keys).addProof(new URL(request.url), headers, 'PUT', granted.access_token);
  const claims = await oauth.validateJwtAccessToken(client.as, new Request(request, { headers }), ARTIFACTS, {
    [oauth.allowInsecureRequests]: true,
    requireDPoP: true,
  });
  assert.equal(claims.sub, 'workload:release');
  assert.equal(claims.client_id, granted.client_id);
  assert.equal(claims.task, granted.task);
  assert.equal(claims.cnf.jkt, await client.dpop.calculateThumbprint());
  assert.ok(claims.exp <= granted.task_expires_at);

  // What another resource does: ask.
  const live = await introspect(client.as, 'artifacts', SECRET, granted.access_token);
  assert.equal(live.active, true);
  assert.equal(live.token_type, 'DPoP');
  assert.equal(live.jti, claims.jti);
  assert.deepEqual(live.authorization_details, granted.authorization_details);

  // The answer got lost: the same request finds the same client.
  const again = await client.grant(proof, ask);
  assert.equal(again.client_id, granted.client_id);
  assert.notEqual(again.access_token, granted.access_token);

  const renewed = await client.renew(granted.client_id, { resource: ARTIFACTS });
  assert.equal(renewed.client_id, granted.client_id);
  assert.equal(renewed.task_expires_at, granted.task_expires_at);

  const beat = await client.call('POST', `/tasks/${granted.task}/heartbeat`, renewed.access_token);
  assert.deepEqual(beat, { every: 30, grace: 300, task_expires_at: granted.task_expires_at });

  const shown = await client.call('GET', `/tasks/${granted.task}`, renewed.access_token);
  assert.equal(JSON.stringify(shown).includes(granted.task), true);

  const path = `/clients/${granted.client_id}/end`;
  const ended = await client.call('POST', path, renewed.access_token, { outcome: 'completed' });
  assert.equal(ended.task, granted.task);
  assert.equal(ended.client, granted.client_id);
  assert.equal(ended.cause, 'completed');
  assert.ok(Date.parse(ended.last_possible_acceptance) >= Date.parse(ended.at));

  // End means end, and an end that was not heard may be asked for again.
  const over = await introspect(client.as, 'artifacts', SECRET, renewed.access_token);
  assert.deepEqual(over, { active: false });
  const renewal = await refused(client.renew(granted.client_id, { resource: ARTIFACTS }));
  assert.equal(renewal.error, 'invalid_grant');
  assert.equal(renewal.rule, 'task_ended');
  const { head: _first, ...first } = ended;
  const { head: _second, ...second } = await client.call('POST', path, granted.access_token, { outcome: 'failed' });
  assert.deepEqual(second, first);
  const reopened = await refused(client.grant(await platform.token(workflow, { aud: here() }), ask));
  assert.equal(reopened.rule, 'already_ended');

  const receipt = await client.call('GET', `/tasks/${granted.task}/receipt`, renewed.access_token);
  assert.equal(receipt.task, granted.task);
  const kinds = receipt.entries.map((entry) => JSON.parse(entry.leaf).kind);
  assert.equal(kinds[0], 'task.started');
  assert.equal(kinds.filter((kind) => kind === 'credential.issued').length, 3);
  assert.equal(kinds.at(-1), 'task.ended');
  assert.ok(!JSON.stringify(receipt).includes(granted.access_token.split('.')[2]));
  await verifies(receipt);
});

/** Anyone with the tenant's public ledger key can check a receipt, and sees when it was changed. */
async function verifies(receipt) {
  const head = await dayfly.operate('ledger', 'head', '--json');
  assert.equal(head.code, 0, head.stderr);
  const { verifier_key: key } = JSON.parse(head.stdout);
  const file = join(dayfly.folder, `${receipt.task}.json`);
  await writeFile(file, JSON.stringify(receipt));
  const holds = await run(['verify', file, '--key', key]);
  assert.equal(holds.code, 0, holds.stderr);
  assert.match(holds.stdout, /complete/);

  const text = await readFile(file, 'utf8');
  const forged = text.replace('completed', 'cancelled');
  assert.notEqual(forged, text);
  await writeFile(file, forged);
  assert.equal((await run(['verify', file, '--key', key])).code, 1);
  const without = (place) => ({ ...receipt, entries: receipt.entries.toSpliced(place, 1) });
  await writeFile(file, JSON.stringify(without(2)));
  assert.equal((await run(['verify', file, '--key', key])).code, 1);
  // Without its end a receipt is one of an open task: it holds only where that is asked for.
  await writeFile(file, JSON.stringify(without(-1)));
  const cut = await run(['verify', file, '--key', key]);
  assert.equal(cut.code, 1, cut.stdout);
  assert.match(cut.stderr, /cut off/);
  const open = await run(['verify', file, '--key', key, '--open']);
  assert.equal(open.code, 0, open.stderr);
  assert.doesNotMatch(open.stdout, /complete/);
}

for (const tenant of ['strict', 'plain']) {
  test(`a platform's token comes in by each of three entrances (nonce of ${tenant})`, async () => {
    const entrances = {
      assertion: (client, jwt) => client.grant(jwt, { resource: ARTIFACTS }),
      client_assertion: (client, jwt) =>
        client.token('client_credentials', { resource: ARTIFACTS }, { auth: platformAssertion(jwt) }),
      subject_token: (client, jwt) =>
        client.token(EXCHANGE, { subject_token: jwt, subject_token_type: TYPE_JWT, audience: 'artifacts' }),
    };
    for (const [name, enter] of Object.entries(entrances)) {
      const client = await Client.of(here(tenant));
      const granted = await enter(client, await platform.token(platform.run(), { aud: here(tenant) }));
      assert.equal(granted.token_type, 'dpop', name);
      assert.equal(bodyOf(granted.access_token).aud, ARTIFACTS, name);
      assert.equal(granted.issued_token_type !== undefined, name === 'subject_token', name);
      const live = await introspect(client.as, 'artifacts', SECRET, granted.access_token);
      assert.equal(live.active, true, name);
    }
  });
}

test('a nonce is demanded once and then carried', async () => {
  const client = await Client.of(here());
  const proof = await platform.token(platform.run(), { aud: here() });
  const bare = await post(client.as.token_endpoint, {
    grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
    assertion: proof,
    resource: ARTIFACTS,
  });
  // A workload that demands a key is told so, whatever the tenant's nonce.
  assert.equal(bare.status, 400);
  assert.equal(bare.body.error, 'invalid_dpop_proof');
  assert.ok(bare.headers.get('dpop-nonce'));

  const first = new Headers();
  await client.dpop.addProof(new URL(client.as.token_endpoint), first, 'POST');
  const demanded = await post(
    client.as.token_endpoint,
    { grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', assertion: proof, resource: ARTIFACTS },
    { dpop: first.get('dpop') },
  );
  assert.equal(demanded.status, 400);
  assert.equal(demanded.body.error, 'use_dpop_nonce');
  // Neither of the two spent the proof.
  const granted = await client.grant(proof, { resource: ARTIFACTS });
  assert.equal(granted.token_type, 'dpop');
});

test('access is narrowed by exchange and never widened', async () => {
  const { client, granted } = await opened('strict', { resource: ARTIFACTS, scope: 'artifacts:publish' });
  const narrowed = await client.narrow(granted.access_token, {
    resource: ARTIFACTS,
    authorization_details: JSON.stringify([{ type: 'artifact', actions: ['read'], identifier: 'octo-repo/app' }]),
  });
  assert.equal(narrowed.client_id, granted.client_id);
  assert.deepEqual(narrowed.authorization_details, [
    { type: 'artifact', actions: ['read'], identifier: 'octo-repo/app', locations: [ARTIFACTS] },
  ]);
  const wider = await refused(client.narrow(granted.access_token, {
    resource: ARTIFACTS,
    authorization_details: JSON.stringify([{ type: 'artifact', actions: ['delete'], identifier: 'octo-repo/app' }]),
  }));
  assert.equal(wider.error, 'invalid_authorization_details');
  assert.equal(wider.rule, 'not_covered');
  const elsewhere = await refused(client.narrow(granted.access_token, { resource: DEPLOY }));
  assert.equal(elsewhere.error, 'invalid_target');
  const scope = await refused(client.renew(granted.client_id, { resource: ARTIFACTS, scope: 'artifacts:delete' }));
  assert.equal(scope.error, 'invalid_scope');
});

test('one client reaches several resources, one token each', async () => {
  const { client, granted } = await opened();
  const other = await client.renew(granted.client_id, { resource: DEPLOY });
  assert.equal(other.client_id, granted.client_id);
  assert.deepEqual(other.authorization_details, [
    { type: 'deployment', actions: ['start'], identifier: 'octo-repo', region: ['eu', 'us'], locations: [DEPLOY] },
  ]);
  const header = JSON.parse(Buffer.from(other.access_token.split('.')[0], 'base64url'));
  assert.equal(header.alg, 'RS256');
  const unnamed = await refused(client.renew(granted.client_id));
  assert.equal(unnamed.error, 'invalid_target');
  const unknown = await refused(client.renew(granted.client_id, { resource: 'https://elsewhere.example' }));
  assert.equal(unknown.error, 'invalid_target');
});

test('the whole task is ended by a root client', async () => {
  const { client, granted } = await opened();
  const path = `/tasks/${granted.task}/end`;
  const ended = await client.call('POST', path, granted.access_token, { outcome: 'failed' });
  assert.equal(ended.cause, 'failed');
  assert.equal((await introspect(client.as, 'artifacts', SECRET, granted.access_token)).active, false);
  const beat = await refused(client.call('POST', `/tasks/${granted.task}/heartbeat`, granted.access_token));
  assert.equal(beat.status, 401);
  assert.equal(beat.rule, 'task_ended');
});

test('a newer attempt supersedes the open task of the older one', async () => {
  const workflow = platform.run();
  const older = await Client.of(here());
  const first = await older.grant(await platform.token(workflow, { aud: here() }), { resource: ARTIFACTS });
  const newer = await Client.of(here());
  const rerun = { ...workflow, run_attempt: '2', check_run_id: `${workflow.check_run_id}1` };
  const second = await newer.grant(await platform.token(rerun, { aud: here() }), { resource: ARTIFACTS });
  assert.notEqual(second.task, first.task);
  assert.equal((await introspect(older.as, 'artifacts', SECRET, first.access_token)).active, false);
  assert.equal((await introspect(newer.as, 'artifacts', SECRET, second.access_token)).active, true);
  const late = await refused(older.grant(await platform.token(workflow, { aud: here() }), { resource: ARTIFACTS }));
  assert.equal(late.rule, 'older_attempt');
});

test('the newest credential given back ends the client, an older one only itself', async () => {
  const { client, granted } = await opened('plain');
  const renewed = await client.renew(granted.client_id, { resource: ARTIFACTS });
  const active = async (token) => (await introspect(client.as, 'artifacts', SECRET, token)).active;

  await client.revoke(granted.access_token, granted.client_id);
  assert.equal(await active(granted.access_token), false);
  assert.equal(await active(renewed.access_token), true);

  const stranger = await opened('plain');
  await stranger.client.revoke(renewed.access_token, stranger.granted.client_id);
  assert.equal(await active(renewed.access_token), true, 'a stranger revokes nothing');
  await client.revoke('not a token', granted.client_id);

  await client.revoke(renewed.access_token, granted.client_id);
  assert.equal(await active(renewed.access_token), false);
  const renewal = await refused(client.renew(granted.client_id, { resource: ARTIFACTS }));
  assert.equal(renewal.error, 'invalid_grant');
});

test('a bearer credential works where the workload allows it, and cannot end', async () => {
  const client = await Client.of(here('plain'));
  const nightly = platform.run({ ref: 'refs/heads/nightly' });
  const granted = await client.grant(
    await platform.token(nightly, { aud: here('plain') }),
    { client_id: 'nightly' },
    { dpop: null },
  );
  assert.equal(granted.token_type, 'bearer');
  const path = `${client.as.issuer}/tasks/${granted.task}`;
  const bearer = { authorization: `Bearer ${granted.access_token}`, 'content-type': 'application/json' };
  assert.equal((await fetch(`${path}/heartbeat`, { method: 'POST', headers: bearer })).status, 200);
  const end = await fetch(`${path}/end`, { method: 'POST', headers: bearer, body: '{"outcome":"completed"}' });
  assert.equal(end.status, 401);
  assert.equal((await end.json()).refused.rule, 'dpop_missing');
  const revoked = await post(client.as.revocation_endpoint, { token: granted.access_token });
  assert.equal(revoked.status, 200);
  assert.equal((await introspect(client.as, 'artifacts', SECRET, granted.access_token)).active, false);
});

test('the lost answer is for the same key and the same request alone', async () => {
  const { client, proof, granted } = await opened();
  const differs = await refused(client.grant(proof, { resource: ARTIFACTS, scope: 'artifacts:read' }));
  assert.equal(differs.rule, 'retry_differs');
  const thief = new Client(client.as, await newKeys());
  const stolen = await refused(thief.grant(proof, { resource: ARTIFACTS }));
  assert.equal(stolen.rule, 'retry_other_key');
  assert.equal((await introspect(client.as, 'artifacts', SECRET, granted.access_token)).active, true);
});
