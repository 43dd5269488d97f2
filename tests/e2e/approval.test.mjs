// Requests that wait for people: the Deferred Token Response draft by a real OAuth client, and approvers who log in at a real provider.

import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Client, introspect, newKeys, refused } from './lib/client.mjs';
import { ARTIFACTS, SECRET, freePort, run, startDayfly } from './lib/dayfly.mjs';
import { startPlatform } from './lib/platform.mjs';
import { CLIENT, TASKS, consent, startProvider, tokens } from './lib/provider.mjs';

const DEFERRED = 'urn:ietf:params:oauth:grant-type:deferred';
/** Members of the owner, somebody who runs the server, an auditor, an approver by role, and a stranger. */
const PEOPLE = { mona: ['platform'], pam: ['platform'], dora: ['sre'], audra: ['audit'], ada: [], otto: ['sales'] };

const workloads = (url) => `
[issuer.staff]
kind = "oidc"
url = "${url}"
allow_private = true
audience = "${TASKS}{-tenant}"
people = true

[workload.deploy]
owner = "team-platform"
kind = "ci"
purpose = "deploy what was released"
match = { issuer = "ci", repository_id = "1296269", ref = "refs/heads/deploy" }
approval = { by = "owner", within = "30m" }
access = [
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo-repo/*", scope = "artifacts:read" },
]

[workload.vault]
owner = "team-platform"
kind = "ci"
purpose = "open the vault"
match = { issuer = "ci", repository_id = "1296269", ref = "refs/heads/vault" }
approval = { by = "owner", within = "30m", people = 2 }
access = [
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo-repo/*" },
]

[workload.repair]
owner = "team-platform"
kind = "operator"
purpose = "repair artifacts by hand"
match = { issuer = "staff", sub = "mona" }
approval = { by = "owner", within = "30m" }
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
  dayfly = await startDayfly(platform, workloads(provider.url), `
admin = "127.0.0.1:${port}"

[operators]
issuer = "${provider.url}"
client_id = "${CLIENT}"
allow_private = true
operator = ["group:sre"]
approver = ["email:ada@example.com"]
auditor = ["group:audit"]
`);
  await Promise.all(Object.keys(PEOPLE).map(login));
});
after(async () => {
  await dayfly?.stop();
  await provider?.close();
  await platform?.close();
  await rm(states, { recursive: true, force: true });
});

const env = (person) => ({ XDG_STATE_HOME: join(states, person) });

/** Logs somebody in by device code. */
async function login(person) {
  let opened;
  const heard = (said) => {
    const place = said.match(/or open (\S+)\n/)?.[1];
    if (place && !opened) opened = consent(place, person);
  };
  const done = await run(['login', '--server', admin], { env: env(person), heard });
  await opened;
  assert.equal(done.code, 0, done.stderr);
}

/** Says yes or no to a task, as a person who is logged in. */
const say = (person, word, task) =>
  run(['task', word, task, '--reason', 'looked at it', '--server', admin, '--tenant', 'strict'], { env: env(person) });

const seconds = (count) => new Promise((next) => setTimeout(next, count * 1000));

/** A job that asks and may wait. */
async function asks(branch) {
  const issuer = dayfly.issuer('strict');
  const client = await Client.of(issuer);
  const proof = await platform.token(platform.run({ ref: `refs/heads/${branch}` }), { aud: issuer });
  const waits = await refused(client.grant(proof, { resource: ARTIFACTS, completion_mode: 'immediate deferred' }));
  assert.deepEqual([waits.status, waits.error], [400, 'authorization_pending'], JSON.stringify(waits));
  assert.equal(typeof waits.body.expires_in, 'number');
  const { deferral_code: code, interval, task } = waits.body;
  return { client, code, interval, task };
}

const poll = ({ client, code }) => client.token(DEFERRED, { deferral_code: code });

/** The tasks that stand open or wait, as the record says. */
async function standing(task) {
  const shown = await dayfly.operate('task', 'show', task, '--json');
  assert.equal(shown.code, 0, shown.stderr);
  return JSON.parse(shown.stdout);
}

test('a request that may not wait is told how it may, and nothing is spent by it', async () => {
  const issuer = dayfly.issuer('strict');
  const client = await Client.of(issuer);
  assert.equal(client.as.deferred_token_response_supported, true);
  assert.ok(client.as.grant_types_supported.includes(DEFERRED));
  const proof = await platform.token(platform.run({ ref: 'refs/heads/deploy' }), { aud: issuer });
  const no = await refused(client.grant(proof, { resource: ARTIFACTS }));
  assert.deepEqual([no.error, no.rule, no.field], ['access_denied', 'approval_needed', 'completion_mode']);
  const bare = await refused(client.grant(proof, { resource: ARTIFACTS, completion_mode: 'deferred' }, { dpop: null }));
  assert.equal(bare.error, 'invalid_dpop_proof');
  const waits = await refused(client.grant(proof, { resource: ARTIFACTS, completion_mode: 'deferred' }));
  assert.equal(waits.error, 'authorization_pending');
});

test('a job waits, is told to slow down, is approved by a member, and fetches its credential once', async () => {
  const asked = await asks('deploy');
  assert.equal(asked.interval, 5);
  assert.equal((await refused(poll(asked))).error, 'authorization_pending', 'the first poll may come at once');
  assert.equal((await refused(poll(asked))).error, 'slow_down');
  const foreign = new Client(asked.client.as, await newKeys());
  const stolen = await refused(poll({ ...asked, client: foreign }));
  assert.deepEqual([stolen.status, stolen.error, stolen.rule], [400, 'invalid_grant', 'deferral_code']);

  const approved = await say('pam', 'approve', asked.task);
  assert.equal(approved.code, 0, approved.stderr);
  assert.match(approved.stdout, /approved task_\w+; its client has until/);
  assert.equal((await refused(poll(asked))).error, 'slow_down', 'an approval is no reason to hurry');
  await seconds(15);
  const granted = await poll(asked);
  assert.deepEqual([granted.task, granted.scope, granted.token_type], [asked.task, 'artifacts:read', 'dpop']);
  const seen = await introspect(asked.client.as, 'artifacts', SECRET, granted.access_token);
  assert.equal(seen.active, true);
  const twice = await refused(poll(asked));
  assert.deepEqual([twice.error, twice.rule], ['invalid_grant', 'deferral_code']);
  await asked.client.renew(granted.client_id);
  const ended = await asked.client.call('POST', `/clients/${granted.client_id}/end`, granted.access_token, { outcome: 'completed' });
  assert.equal(ended.cause, 'completed');
  const trace = await dayfly.operate('trace', asked.task);
  assert.match(trace.stdout, new RegExp(`task.approved .*by pam of ${provider.url}; reason looked at it`));
});

test('a job that is denied gets nothing, whoever would approve it afterwards', async () => {
  const asked = await asks('deploy');
  const denied = await say('pam', 'deny', asked.task);
  assert.equal(denied.code, 0, denied.stderr);
  assert.match(denied.stdout, /^GONE .*denied/);
  const told = await refused(poll(asked));
  assert.deepEqual([told.error, told.rule], ['access_denied', 'approval_denied']);
  assert.notEqual((await say('mona', 'approve', asked.task)).code, 0);
  assert.equal((await refused(poll(asked))).error, 'access_denied');
});

test('a request is taken back by revocation of its code, and by nobody without its key', async () => {
  const asked = await asks('deploy');
  const stranger = new Client(asked.client.as, await newKeys());
  await stranger.takeBack(asked.code);
  assert.equal((await standing(asked.task)).state, 'pending');
  await asked.client.takeBack(asked.code);
  const over = await standing(asked.task);
  assert.deepEqual([over.state, over.cause], ['ended', 'cancelled']);
  assert.equal((await refused(poll(asked))).error, 'access_denied');
  assert.notEqual((await say('pam', 'approve', asked.task)).code, 0);
  await asked.client.takeBack(asked.code);
});

test('nobody approves but a member or an approver, and a stranger is told no more than there is', async () => {
  const asked = await asks('deploy');
  for (const [person, said] of [
    ['otto', /your roles: none/],
    ['audra', /your roles: auditor/],
    ['dora', /your roles: operator/],
  ]) {
    const no = await say(person, 'approve', asked.task);
    assert.equal(no.code, 1, person);
    assert.match(no.stderr, said, person);
  }
  const socket = await dayfly.operate('task', 'approve', asked.task, '--reason', 'I sit here');
  assert.equal(socket.code, 1);
  assert.match(socket.stderr, /got a user id of this machine/);
  for (const person of ['otto', 'audra']) assert.equal((await say(person, 'deny', asked.task)).code, 1, person);
  assert.equal((await refused(poll(asked))).error, 'authorization_pending');
  assert.equal((await say('ada', 'approve', asked.task)).code, 0, 'an approver by role');
});

test('who asks may not approve, and another member may while `dayfly run` waits', async () => {
  const { id_token } = await tokens(provider, TASKS, 'mona');
  let decided;
  let heard = '';
  const waits = run(
    ['run', '--workload', 'repair', '--wait-approval', '1m', '--server', dayfly.url, '--tenant', 'strict', '--', 'echo', 'repaired'],
    {
      env: { DAYFLY_ID_TOKEN: id_token },
      heard: (said) => {
        heard = said;
        const task = said.match(/(task_\w+) waits for an approval/)?.[1];
        if (task && !decided) decided = decide(task);
      },
    },
  );
  const decide = async (task) => {
    const own = await say('mona', 'approve', task);
    const other = await say('pam', 'approve', task);
    return { own, other };
  };
  const done = await waits;
  assert.equal(done.code, 0, done.stderr);
  assert.match(done.stdout, /repaired/);
  assert.match(heard, /dayfly task approve task_\w+ --tenant strict --reason/);
  const { own, other } = await decided;
  assert.equal(own.code, 1);
  assert.match(own.stderr, /own_request/);
  assert.equal(other.code, 0, other.stderr);
});

test('where two people are wanted, one is not enough, however often', async () => {
  const asked = await asks('vault');
  const first = await say('pam', 'approve', asked.task);
  assert.match(first.stdout, /by 1 of 2: another person is needed/);
  const again = await say('pam', 'approve', asked.task);
  assert.equal(again.code, 1);
  assert.match(again.stderr, /approved_twice/);
  assert.equal((await refused(poll(asked))).error, 'authorization_pending');
  assert.equal((await say('mona', 'approve', asked.task)).code, 0);
  await seconds(asked.interval);
  const granted = await poll(asked);
  assert.equal(granted.task, asked.task);
});

/** The lines of the runbook's page that are commands, in order. */
async function page() {
  const runbook = await readFile(fileURLToPath(new URL('../../docs/runbook.md', import.meta.url)), 'utf8');
  const [, rest] = runbook.split('\n## A request waits for approval\n');
  const text = rest.split('\n## ')[0];
  assert.ok(text.includes('"the page on requests that wait is walked"'));
  return [...text.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, body]) => body.trim().split('\n'));
}

test('the page on requests that wait is walked', async () => {
  const lines = await page();
  const place = ['--server', admin, '--tenant', 'strict'];
  /** Does the next line of the page, as somebody who is logged in. */
  const next = (person, task, word) => {
    const line = lines.shift();
    assert.ok(line?.startsWith(`dayfly ${word}`), `the page has \`${line}\` and not ${word}`);
    const words = line.replace('TASK', task).match(/"[^"]*"|\S+/g).slice(1);
    return run([...words.map((part) => part.replaceAll('"', '')), ...place], { env: env(person) });
  };
  const [asked, other] = [await asks('deploy'), await asks('deploy')];
  // A list is for roles; a member looks at the task that is named to them.
  const listed = await next('ada', asked.task, 'task list');
  assert.ok(listed.stdout.includes(asked.task) && listed.stdout.includes('waits for an approval'), listed.stdout + listed.stderr);
  const shown = await next('pam', asked.task, 'task show');
  assert.match(shown.stdout, /deploy/);
  assert.match(shown.stdout, /artifact/);
  for (const [person, said] of [['dora', /your roles: operator/], ['otto', /your roles: none/]]) {
    const no = await say(person, 'approve', asked.task);
    assert.equal(no.code, 1);
    assert.match(no.stderr, said);
  }
  const approved = await next('pam', asked.task, 'task approve');
  assert.match(approved.stdout, /its client has until/, approved.stderr);
  const denied = await next('mona', other.task, 'task deny');
  assert.match(denied.stdout, /^GONE .*denied/, denied.stderr);
  const told = await refused(poll(other));
  assert.deepEqual([told.error, told.rule], ['access_denied', 'approval_denied']);
  assert.equal((await poll(asked)).task, asked.task);
  const owners = await next('dora', asked.task, 'owner list');
  assert.match(owners.stdout, /team-platform/, owners.stderr);
  const traced = await next('pam', asked.task, 'trace');
  assert.match(traced.stdout, /task.approved .*by pam of .*; reason release 1.4/, traced.stderr);
  assert.deepEqual(lines, [], 'every line of the page was walked');
});
