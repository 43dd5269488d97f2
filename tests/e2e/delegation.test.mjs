// The programs of docs/delegation.md, as they stand there: a parent that signs and children that come in.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { ARTIFACTS, SECRET, binary, run, startDayfly } from './lib/dayfly.mjs';
import { Client, introspect } from './lib/client.mjs';
import { startPlatform } from './lib/platform.mjs';

const AGENT = `
[workload.agent]
owner = "team-platform"
kind = "agent"
purpose = "hand work to helpers"
match = { issuer = "ci", repository_id = "1296269", ref = "refs/heads/agents" }
delegation = { depth = 2, clients = 8, to = ["self"] }
heartbeat = { mode = "auto", every = "1s", grace = "1m" }
access = [
  { resource = "artifacts", type = "artifact", actions = ["read", "publish"], identifier = "octo-repo/*", scope = "artifacts:publish" },
]
`;
const PYTHON = process.env.DAYFLY_PYTHON ?? 'python3';
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
let platform;
let dayfly;
let folder;
let handOver;

before(async () => {
  platform = await startPlatform();
  dayfly = await startDayfly(platform, AGENT);
  folder = join(dayfly.folder, 'programs');
  await mkdir(folder);
  await symlink(here('./node_modules'), join(folder, 'node_modules'));
  const text = await readFile(here('../../docs/delegation.md'), 'utf8');
  for (const [, body] of text.matchAll(/```(?:typescript|python)\n([\s\S]*?)```/g)) {
    const [, name] = body.match(/^(?:\/\/|#) (\S+):/);
    await writeFile(join(folder, name), body);
  }
  // As strictly as a compiler can, and then run as what it makes of them.
  const tsc = here('./node_modules/.bin/tsc');
  const options = ['--strict', '--target', 'es2022', '--module', 'nodenext', '--types', 'node'];
  await promisify(execFile)(tsc, [...options, 'parent.mts', 'child.mts'], { cwd: folder })
    .catch((error) => { throw new Error(error.stdout || error.message); });
  ({ handOver } = await import(pathToFileURL(join(folder, 'parent.mjs'))));
});
after(async () => {
  await dayfly?.stop();
  await platform?.close();
});

/** Starts a child and gives how to hear and tell it. */
function started(program, file) {
  const child = spawn(program, [join(folder, file)], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, DAYFLY_ISSUER: dayfly.issuer('strict') },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text) => { complaint += text; });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    tell: (text) => child.stdin.write(`${text}\n`),
    hear: async () => {
      const { value, done } = await lines.next();
      if (done) throw new Error(complaint || 'it said nothing');
      return value;
    },
    gone: () => child.kill(),
  };
}

for (const [program, file] of [[process.execPath, 'child.mjs'], [PYTHON, 'child.py']]) {
  test(`${file} comes in, renews, and is over with its parent`, async () => {
    const issuer = dayfly.issuer('strict');
    const parent = await Client.of(issuer);
    const proof = await platform.token(platform.run({ ref: 'refs/heads/agents' }), { aud: issuer });
    const granted = await parent.grant(proof, { client_id: 'agent' });
    const child = started(program, file);
    const jkt = await child.hear();
    const detail = { type: 'artifact', locations: [ARTIFACTS], actions: ['read'], identifier: 'octo-repo/app' };
    const signed = await handOver({
      issuer, clientId: granted.client_id, privateKey: parent.keys.privateKey, jkt,
      access: { authorization_details: [detail] },
    });
    child.tell(signed);
    const first = JSON.parse(await child.hear());
    assert.equal(first.client_id, granted.client_id.replace(/_1$/, '_2'));
    assert.deepEqual(first.authorization_details, [detail]);
    const seen = await introspect(parent.as, 'artifacts', SECRET, first.access_token);
    assert.equal(seen.active, true);
    assert.equal(seen.cnf.jkt, jkt);
    assert.equal(seen.act.act.client_id, granted.client_id);
    child.tell('renew');
    const second = JSON.parse(await child.hear());
    assert.equal(second.client_id, first.client_id);
    await parent.call('POST', `/clients/${granted.client_id}/end`, granted.access_token, { outcome: 'completed' });
    const after = await introspect(parent.as, 'artifacts', SECRET, second.access_token);
    assert.deepEqual({ ...after }, { active: false });
    child.gone();
  });
}

test('helpers of a run hand on within it, each with less, and none with more', async () => {
  const workflow = platform.run({ ref: 'refs/heads/agents' });
  const url = new URL(`${platform.url}/job-token`);
  url.searchParams.set('run', JSON.stringify(workflow));
  const detail = { type: 'artifact', locations: [ARTIFACTS], actions: ['read'], identifier: 'octo-repo/app' };
  const env = {
    DAYFLY_SERVER: dayfly.issuer('strict'),
    ACTIONS_ID_TOKEN_REQUEST_URL: url.href,
    ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'of-the-job',
    DAYFLY: binary,
    PART: JSON.stringify([detail]),
    WIDER: JSON.stringify([{ ...detail, actions: ['read', 'publish'] }]),
  };
  const inner = `
    echo "middle $DAYFLY_CLIENT"
    "$DAYFLY" delegate --access "$PART" -- sh -c 'echo "deep $DAYFLY_CLIENT"; "$DAYFLY" token --format json' || exit 1
    "$DAYFLY" delegate --access "$WIDER" -- true
    echo "wider $?"`;
  const script = `
    "$DAYFLY" delegate --scope artifacts:publish -- sh -c 'echo "left $DAYFLY_CLIENT"' || exit 1
    "$DAYFLY" delegate --access "$PART" -- sh -c '${inner.replaceAll("'", "'\\''")}'`;
  const done = await run(['run', '--workload', 'agent', '--', 'sh', '-c', script], { env });
  assert.equal(done.code, 0, done.stderr);
  const lines = done.stdout.trim().split('\n');
  const said = (word) => lines.find((line) => line.startsWith(`${word} `))?.split(' ')[1];
  const root = said('left').replace(/_2$/, '');
  assert.deepEqual([said('left'), said('middle'), said('deep')], [`${root}_2`, `${root}_3`, `${root}_4`]);
  assert.equal(said('wider'), '126', 'refused');
  for (const who of [said('deep'), said('middle'), root.replace('client_', 'task_')]) {
    assert.ok(done.stderr.includes(`${who} ended \`completed\``), done.stderr);
  }
  const token = JSON.parse(lines.find((line) => line.startsWith('{')));
  assert.deepEqual(token.authorization_details, [detail]);

  const shown = await dayfly.operate('task', 'show', root.replace('client_', 'task_'), '--json');
  assert.equal(shown.code, 0, shown.stderr);
  const { clients } = JSON.parse(shown.stdout);
  assert.deepEqual(clients.map((client) => [client.client, client.parent, client.depth]), [
    [`${root}_1`, undefined, 0], [`${root}_2`, 1, 1], [`${root}_3`, 1, 1], [`${root}_4`, 3, 2],
  ]);
  assert.ok(clients.every((client) => client.state === 'ended'));
  const traced = await dayfly.operate('trace', `${root}_4`);
  assert.match(traced.stdout, /client\.delegated/);
  assert.match(traced.stdout, new RegExp(`${root}_4 from ${root}_3`));

  const outside = await run(['delegate', '--scope', 'artifacts:publish', '--', 'true'], { env });
  assert.equal(outside.code, 125);
  assert.match(outside.stderr, /not inside `dayfly run`/);
});

test('a helper that is ended elsewhere is stopped, with the helper below it, and the run goes on', async () => {
  const workflow = platform.run({ ref: 'refs/heads/agents' });
  const url = new URL(`${platform.url}/job-token`);
  url.searchParams.set('run', JSON.stringify(workflow));
  const env = {
    DAYFLY_SERVER: dayfly.issuer('strict'),
    ACTIONS_ID_TOKEN_REQUEST_URL: url.href,
    ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'of-the-job',
    DAYFLY: binary,
  };
  const below = `"$DAYFLY" delegate --scope artifacts:publish -- sh -c 'echo "below $DAYFLY_CLIENT" >&2; sleep 60'`;
  const script = `
    "$DAYFLY" delegate --scope artifacts:publish -- sh -c '${below.replaceAll("'", "'\\''")}'
    echo "helper $?"`;
  let ended;
  const heard = (said) => {
    const [client] = said.match(/below (client_\w+)_3/)?.slice(1) ?? [];
    if (client && !ended) ended = dayfly.operate('client', 'end', `${client}_2`, '--reason', 'misled');
  };
  const began = Date.now();
  const done = await run(['run', '--workload', 'agent', '--', 'sh', '-c', script], { env, heard });
  assert.equal(done.code, 0, done.stderr);
  assert.equal((await ended).code, 0);
  assert.match(done.stdout, /^helper 124$/m);
  assert.match(done.stderr, /client_\w+_2 ended `operator`/);
  assert.match(done.stderr, /client_\w+_3 ended `parent`/);
  assert.match(done.stderr, /task_\w+ ended `completed`/);
  assert.ok(Date.now() - began < 30_000, 'they were stopped, and not waited for');
});
