// People who operate a server from elsewhere, by a real OpenID provider: login, roles, members, and what stands in the ledger.

import assert from 'node:assert/strict';
import { mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Client } from './lib/client.mjs';
import { ARTIFACTS, freePort, run, startDayfly } from './lib/dayfly.mjs';
import { startPlatform } from './lib/platform.mjs';
import { CLIENT, TASKS, consent, startProvider, tokens } from './lib/provider.mjs';

const PEOPLE = { ada: ['sre-leads'], mona: ['sre'], audra: ['audit'], pam: ['platform'], dora: [], otto: ['sales'] };

const MORE = `
[owner.team-data]
name = "Data team"
contact = "data@example.com"
members = ["sub:dora"]

[workload.report]
owner = "team-data"
kind = "batch"
purpose = "report on artifacts"
match = { issuer = "ci", repository_id = "1296269", ref = "refs/heads/report" }
access = [
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo-repo/*" },
]
`;

const staff = (url) => `
[issuer.staff]
kind = "oidc"
url = "${url}"
allow_private = true
audience = "${TASKS}{-tenant}"
people = true

[workload.repair]
owner = "team-platform"
kind = "operator"
purpose = "repair artifacts by hand"
match = { issuer = "staff", sub = "mona" }
access = [
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo-repo/*" },
]
`;

let platform;
let provider;
let dayfly;
let admin;
let states;

before(async () => {
  platform = await startPlatform();
  provider = await startProvider(PEOPLE);
  const port = await freePort();
  admin = `http://127.0.0.1:${port}`;
  states = await mkdtemp(join(tmpdir(), 'dayfly-logins-'));
  dayfly = await startDayfly(platform, MORE + staff(provider.url), `
admin = "127.0.0.1:${port}"

[operators]
issuer = "${provider.url}"
client_id = "${CLIENT}"
allow_private = true
admin = ["group:sre-leads"]
operator = ["group:sre"]
auditor = ["email:audra@example.com"]
`);
});
after(async () => {
  await dayfly?.stop();
  await provider?.close();
  await platform?.close();
  await rm(states, { recursive: true, force: true });
});

const env = (person) => ({ XDG_STATE_HOME: join(states, person) });

/** Runs a command as a person who is logged in. */
const as = (person, ...args) =>
  run([...args, '--server', admin, '--tenant', 'strict'], { env: env(person) });

/** Logs somebody in, as they would by hand. */
async function login(person, options) {
  let opened;
  const heard = (said) => {
    const place = said.match(/or open (\S+)\n/)?.[1];
    if (place && !opened) opened = consent(place, person, options);
  };
  const done = await run(['login', '--server', admin], { env: env(person), heard });
  await opened;
  return done;
}

async function kept(person) {
  const folder = join(states, person, 'dayfly/logins');
  const name = (await readdir(folder)).find((file) => file.endsWith('.json'));
  return name && join(folder, name);
}

async function opened(claims) {
  const here = dayfly.issuer('strict');
  const client = await Client.of(here);
  return client.grant(await platform.token(platform.run(claims), { aud: here }), { resource: ARTIFACTS });
}

test('an operator logs in, ends a task with a reason, and stands in the ledger', async () => {
  const nobody = await as('mona', 'task', 'list');
  assert.equal(nobody.code, 1);
  assert.match(nobody.stderr, /nobody is logged in to .*: dayfly login --server/);

  const done = await login('mona');
  assert.equal(done.code, 0, done.stderr);
  assert.match(done.stderr, /open http:\S+ and enter the code \S+/);
  assert.match(done.stdout, /logged in to .* as mona of .*: operator/);
  const file = await kept('mona');
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  assert.doesNotMatch(done.stdout + done.stderr, new RegExp(JSON.parse(await readFile(file)).id_token));

  const granted = await opened();
  const listed = await as('mona', 'task', 'list', '--json');
  assert.equal(listed.code, 0, listed.stderr);
  assert.ok(listed.stdout.includes(granted.task));
  assert.equal((await as('mona', 'task', 'end', granted.task)).code, 2, 'a change wants a reason');
  const ended = await as('mona', 'task', 'end', granted.task, '--reason', 'leaked');
  assert.equal(ended.code, 0, ended.stderr);

  const traced = await as('mona', 'trace', granted.task);
  assert.match(traced.stdout.split('\n')[0], /^GONE .*operator.*leaked/);
  assert.ok(traced.stdout.includes(`mona of ${provider.url}`), traced.stdout);
  const tail = await dayfly.operate('ledger', 'tail', '--lines', '500', '--json');
  const entry = tail.stdout.split('\n').filter(Boolean).map((line) => JSON.parse(line)).flat()
    .find((entry) => entry.kind === 'task.ended' && entry.task === granted.task);
  const annex = JSON.parse(entry.annex);
  assert.equal(annex.reason, 'leaked');
  assert.deepEqual([annex.by.iss, annex.by.sub], [provider.url, 'mona']);
  assert.match(JSON.parse(entry.leaf).data.by, /^[A-Za-z0-9_-]{43}$/);
  assert.ok(!entry.leaf.includes('mona'));
  const fsck = await dayfly.operate('ledger', 'fsck');
  assert.equal(fsck.code, 0, fsck.stderr);

  const beyond = await as('mona', 'apply', '--reason', 'because');
  assert.equal(beyond.code, 1);
  assert.match(beyond.stderr, /this takes the role admin; your roles: operator/);
});

test('an auditor reads everything and changes nothing', async () => {
  assert.match((await login('audra')).stdout, /: auditor/);
  const granted = await opened();
  for (const args of [['task', 'show', granted.task], ['trace', granted.task], ['ledger', 'tail'], ['owner', 'list']]) {
    const read = await as('audra', ...args);
    assert.equal(read.code, 0, `${args}: ${read.stderr}`);
  }
  for (const args of [['task', 'end', granted.task], ['freeze'], ['workload', 'disable', 'release'], ['unblock', 'tenant']]) {
    const change = await as('audra', ...args, '--reason', 'curious');
    assert.equal(change.code, 1, `${args}`);
    assert.match(change.stderr, /this takes the role admin or operator.*your roles: auditor/, `${args}`);
  }
  const { stdout } = await as('audra', 'task', 'show', granted.task, '--json');
  assert.equal(JSON.parse(stdout).state, 'open');
});

test('an admin applies', async () => {
  assert.match((await login('ada')).stdout, /: admin/);
  const dry = await as('ada', 'apply', '--dry-run');
  assert.equal(dry.code, 0, dry.stderr);
});

test('a member ends a task of the own owner and none of another', async () => {
  const pam = await login('pam');
  assert.match(pam.stdout, /member of team-platform in strict/);
  await login('dora');
  const own = await opened();
  const foreign = await opened({ ref: 'refs/heads/report' });
  for (const args of [['task', 'show', own.task], ['trace', own.task]]) {
    assert.equal((await as('pam', ...args)).code, 0, `${args}`);
    assert.equal((await as('dora', ...args)).code, 1, `${args}`);
  }
  const refused = await as('pam', 'task', 'end', foreign.task, '--reason', 'not mine');
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /or that you are a member of the owner whose it is/);
  assert.equal((await as('dora', 'task', 'end', foreign.task, '--reason', 'mine')).code, 0);
  const ended = await as('pam', 'task', 'end', own.task, '--reason', 'mine');
  assert.equal(ended.code, 0, ended.stderr);
  assert.equal((await as('pam', 'task', 'list')).code, 1);
});

test('whoever has no role and is nobody is told so', async () => {
  assert.match((await login('otto')).stdout, /without any role/);
  const read = await as('otto', 'task', 'list');
  assert.match(read.stderr, /your roles: none/);
});

test('a login that is denied is none', async () => {
  const denied = await login('eve', { deny: true });
  assert.equal(denied.code, 1);
  assert.match(denied.stderr, /the login was denied/);
  assert.equal(await kept('eve').catch(() => undefined), undefined);
});

test('a login that runs out is renewed, and a logout ends it at the provider too', async () => {
  await login('mona');
  const file = await kept('mona');
  const former = JSON.parse(await readFile(file));
  assert.ok(former.refresh_token);
  await writeFile(file, JSON.stringify({ ...former, expires: 1000 }));
  const listed = await as('mona', 'task', 'list');
  assert.equal(listed.code, 0, listed.stderr);
  const renewed = JSON.parse(await readFile(file));
  assert.ok(renewed.expires > Date.now());
  assert.notEqual(renewed.refresh_token, former.refresh_token);
  assert.equal((await stat(file)).mode & 0o777, 0o600);

  const out = await run(['logout', '--server', admin], { env: env('mona') });
  assert.equal(out.code, 0, out.stderr);
  assert.equal(out.stderr, '');
  assert.match((await as('mona', 'task', 'list')).stderr, /nobody is logged in/);
  const again = await fetch(`${provider.url}/token`, {
    method: 'POST',
    body: new URLSearchParams({ grant_type: 'refresh_token', refresh_token: renewed.refresh_token, client_id: CLIENT }),
  });
  assert.equal((await again.json()).error, 'invalid_grant');

  await writeFile(file, JSON.stringify({ ...renewed, expires: 1000, refresh_token: null }), { mode: 0o600 });
  const over = await as('mona', 'task', 'list');
  assert.equal(over.code, 1);
  assert.match(over.stderr, /the login has run out: dayfly login --server/);
});

test('a token that is expired, foreign, for another client, unsigned or no id token opens nothing', async () => {
  const asked = async (token) => {
    const response = await fetch(`${admin}/admin`, { headers: { authorization: `Bearer ${token}` } });
    return { status: response.status, body: await response.json() };
  };
  assert.equal((await asked(await provider.token({}))).status, 200, 'what follows differs from this by one thing');
  const now = Math.floor(Date.now() / 1000);
  const unsigned = (header, token) => `${Buffer.from(JSON.stringify(header)).toString('base64url')}.${token.split('.')[1]}.`;
  const good = await provider.token({});
  const stranger = await startProvider(PEOPLE);
  const real = await tokens(provider, 'another', 'mona');
  const cases = {
    expired: [await provider.token({ iat: now - 7200, exp: now - 3600 }), 'times'],
    old: [await provider.token({ iat: now - 13 * 3600 }), 'proof_age'],
    'of another provider': [await stranger.token({}), 'issuer'],
    'by the key of another provider': [await stranger.token({ iss: provider.url }), 'signature'],
    'for another client': [await provider.token({ aud: 'another' }), 'audience'],
    'for another client as well': [await provider.token({ aud: [CLIENT, 'another'] }), 'audience'],
    'given to another client': [await provider.token({ azp: 'another' }), 'audience'],
    'really for another client': [real.id_token, 'audience'],
    'alg none': [unsigned({ alg: 'none' }, good), 'algorithm'],
    unsigned: [unsigned({ alg: 'RS256', kid: 'idp-1' }, good), 'signature'],
    'an access token': [await provider.token({}, { typ: 'at+jwt' }), 'token_type'],
    'an opaque access token': [real.access_token, 'token_form'],
    'of a job': [await platform.token(platform.run(), { aud: CLIENT }), 'issuer'],
  };
  await stranger.close();
  for (const [what, [token, rule]] of Object.entries(cases)) {
    const { status, body } = await asked(token);
    assert.equal(status, 401, `${what}: ${JSON.stringify(body)}`);
    assert.equal(body.refused.rule, rule, `${what}: ${JSON.stringify(body)}`);
  }
});

test('a person starts a task once by a fresh login, and stands in no leaf', async () => {
  const { id_token } = await tokens(provider, TASKS, 'mona');
  const start = (token, ...command) =>
    run(['run', '--workload', 'repair', '--server', dayfly.url, '--tenant', 'strict', '--', ...command], {
      env: { DAYFLY_ID_TOKEN: token },
    });
  const done = await start(id_token, 'sh', '-c', 'test -z "$DAYFLY_ID_TOKEN" && echo repaired');
  assert.equal(done.code, 0, done.stderr);
  assert.match(done.stdout, /repaired/);
  const again = await start(id_token, 'true');
  assert.equal(again.code, 126, again.stderr);
  const { id_token: other } = await tokens(provider, TASKS, 'dora');
  assert.equal((await start(other, 'true')).code, 126, 'the workload is mona\'s');
  const { id_token: untold } = await tokens(provider, CLIENT, 'mona');
  assert.equal((await start(untold, 'true')).code, 126, 'made for another client');

  const tail = await dayfly.operate('ledger', 'tail', '--lines', '500', '--json');
  const entries = tail.stdout.split('\n').filter(Boolean).map((line) => JSON.parse(line)).flat();
  const started = entries.filter((entry) => entry.kind === 'task.started').map((entry) => JSON.parse(entry.leaf).data);
  assert.ok(started.some((data) => data.workload === 'repair' && data.series.startsWith('person:')));
  assert.ok(entries.every((entry) => !entry.leaf.includes('mona')));
});
