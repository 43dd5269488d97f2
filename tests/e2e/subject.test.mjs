// Agents that act on behalf of a person: the person logs in at a real provider, a real OAuth client exchanges both tokens.

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { Client, EXCHANGE, TYPE_JWT, introspect, refused } from './lib/client.mjs';
import { ARTIFACTS, SECRET, run, startDayfly } from './lib/dayfly.mjs';
import { startPlatform } from './lib/platform.mjs';
import { TASKS, startProvider, tokens } from './lib/provider.mjs';

const TYPE_ID_TOKEN = 'urn:ietf:params:oauth:token-type:id_token';
const MAIL = 'https://mail.example';

const declared = (url) => `
[issuer.staff]
kind = "oidc"
url = "${url}"
allow_private = true
audience = "${TASKS}{-tenant}"
people = true

[resource.mail]
url = "${MAIL}"
secret_file = "artifacts.secret"
subject = "person"

[workload.assistant]
owner = "team-platform"
kind = "agent"
purpose = "answers mail for people"
match = { issuer = "ci", repository_id = "1296269", ref = "refs/heads/assistant" }
subject = { from = ["staff"], person = "required", session = "8h" }
access = [
  { resource = "mail", type = "message", actions = ["read"], identifier = "inbox/*", scope = "mail:read" },
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo-repo/*", scope = "artifacts:read" },
]
`;

let platform;
let provider;
let dayfly;
let folder;

before(async () => {
  platform = await startPlatform();
  provider = await startProvider({ mona: ['platform'], dora: ['sre'] });
  folder = await mkdtemp(join(tmpdir(), 'dayfly-people-'));
  dayfly = await startDayfly(platform, declared(provider.url));
});
after(async () => {
  await dayfly?.stop();
  await provider?.close();
  await platform?.close();
  await rm(folder, { recursive: true, force: true });
});

const proof = () => platform.token(platform.run({ ref: 'refs/heads/assistant' }), { aud: dayfly.issuer('strict') });

/** Asks on behalf of whoever this ID token is of. */
const act = async (client, person, parameters) =>
  client.token(EXCHANGE, {
    subject_token: person, subject_token_type: TYPE_ID_TOKEN, actor_token: await proof(), actor_token_type: TYPE_JWT, ...parameters,
  });

test('a person who logged in is named where people are, and is a pseudonym elsewhere', async () => {
  const issuer = dayfly.issuer('strict');
  const client = await Client.of(issuer);
  const { id_token: person } = await tokens(provider, TASKS, 'mona');
  const granted = await act(client, person, { resource: MAIL });
  assert.equal(granted.token_type, 'dpop');
  const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`));
  const { payload } = await jwtVerify(granted.access_token, keys, { issuer, audience: MAIL, typ: 'at+jwt' });
  assert.equal(payload.sub, 'mona');
  assert.deepEqual(payload.on_behalf_of, { iss: provider.url, sub: 'mona' });
  assert.deepEqual(payload.act, { sub: 'workload:assistant', client_id: granted.client_id });
  const told = await introspect(client.as, 'mail', SECRET, granted.access_token);
  assert.deepEqual(told.on_behalf_of, payload.on_behalf_of);

  const elsewhere = await client.narrow(granted.access_token, { resource: ARTIFACTS });
  const other = await introspect(client.as, 'artifacts', SECRET, elsewhere.access_token);
  assert.equal(other.sub, 'workload:assistant');
  assert.equal(other.on_behalf_of.iss, issuer);
  assert.ok(!JSON.stringify(other).includes('mona'));

  const renewed = await client.renew(granted.client_id, { resource: MAIL });
  const again = await jwtVerify(renewed.access_token, keys, { issuer, audience: MAIL });
  assert.equal(again.payload.sub, 'mona');

  const shown = await dayfly.operate('task', 'show', granted.task);
  assert.match(shown.stdout, new RegExp(`on behalf of\\s+mona of ${provider.url}`), shown.stderr);
});

test('a token that is no person\'s, or nobody at all, opens nothing', async () => {
  const client = await Client.of(dayfly.issuer('strict'));
  const { id_token: person } = await tokens(provider, TASKS, 'mona');
  const { id_token: elsewhere } = await tokens(provider, 'another', 'mona');
  const rule = async (token) => (await refused(act(client, token, { resource: MAIL }))).rule;
  assert.equal(await rule(elsewhere), 'audience');
  assert.equal(await rule(await proof()), 'issuer');
  assert.equal(await rule(`${person.slice(0, -8)}AAAAAAAA`), 'signature');
  assert.equal((await refused(client.grant(await proof()))).rule, 'subject_missing');
});

test('`dayfly run` acts for the person whose token a file holds, and hands it to nobody', async () => {
  const { id_token } = await tokens(provider, TASKS, 'dora');
  const file = join(folder, 'dora.jwt');
  await writeFile(file, id_token, { mode: 0o600 });
  const at = ['--server', dayfly.url, '--tenant', 'strict'];
  const script = 'env | grep -c SUBJECT_TOKEN; curl -s -H "Authorization: Bearer $DAYFLY_TOKEN_SECRET" "$DAYFLY_TOKEN_URL?resource=mail"';
  const done = await run(
    ['run', '--on-behalf-of', file, '--resource', 'mail', ...at, '--', 'sh', '-c', script],
    { env: { DAYFLY_ID_TOKEN: await proof(), DAYFLY_SUBJECT_TOKEN_FILE: file } },
  );
  assert.equal(done.code, 0, done.stderr);
  assert.match(done.stdout, /^0\n/);
  const token = done.stdout.match(/eyJ[\w-]+\.([\w-]+)\./);
  assert.equal(JSON.parse(Buffer.from(token[1], 'base64url')).sub, 'dora', done.stdout);
  const proves = await run(['proof', '--on-behalf-of', file, ...at], { env: { DAYFLY_ID_TOKEN: await proof() } });
  assert.equal(proves.code, 0, proves.stderr);
  const alone = await run(['proof', ...at], { env: { DAYFLY_ID_TOKEN: await proof() } });
  assert.match(alone.stderr, /subject_missing/);
});
