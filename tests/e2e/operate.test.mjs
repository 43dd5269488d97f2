// What an operator does while jobs run: trace a token, end its task, explain a refusal, check the ledger.

import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ARTIFACTS, SECRET, run, startDayfly } from './lib/dayfly.mjs';
import { Client, introspect, refused } from './lib/client.mjs';
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

const here = () => dayfly.issuer('strict');

async function opened(workflow = platform.run()) {
  const client = await Client.of(here());
  const granted = await client.grant(await platform.token(workflow, { aud: here() }), { resource: ARTIFACTS });
  return { client, granted };
}

test('a leaked token is traced, its task ended, and its run kept out until unblocked', async () => {
  const workflow = platform.run();
  const { client, granted } = await opened(workflow);
  const trace = (input) =>
    run(['trace', '-', '--tenant', 'strict', '--config', dayfly.config], { input });

  const open = await trace(granted.access_token);
  assert.equal(open.code, 0, open.stderr);
  assert.ok(open.stdout.includes(granted.task));
  assert.doesNotMatch(open.stdout.split('\n')[0], /GONE/);

  const unexplained = await dayfly.operate('task', 'end', granted.task);
  assert.equal(unexplained.code, 2, 'a change wants a reason');
  const ended = await dayfly.operate('task', 'end', granted.task, '--reason', 'leaked');
  assert.equal(ended.code, 0, ended.stderr);
  assert.deepEqual(await introspect(client.as, 'artifacts', SECRET, granted.access_token), { active: false });

  const gone = await trace(granted.access_token);
  assert.match(gone.stdout.split('\n')[0], /^GONE .*operator.*leaked.*last possible acceptance/);

  const rerun = { ...workflow, run_attempt: '2', check_run_id: `${workflow.check_run_id}1` };
  const again = async () => {
    const newer = await Client.of(here());
    return newer.grant(await platform.token(rerun, { aud: here() }), { resource: ARTIFACTS });
  };
  assert.equal((await refused(again())).rule, 'blocked');
  const blocks = await dayfly.operate('block', 'list', '--json');
  const [, series] = blocks.stdout.match(/(series:ci:[^"]*)/);
  const lifted = await dayfly.operate('unblock', series, '--reason', 'the secret was rotated');
  assert.equal(lifted.code, 0, lifted.stderr);
  assert.notEqual((await again()).task, granted.task);
});

test('a refusal is explained to the operator and not to the caller', async () => {
  const client = await Client.of(here());
  const other = platform.run({ ref: 'refs/heads/other' });
  const refusal = await refused(client.grant(await platform.token(other, { aud: here() }), { resource: ARTIFACTS }));
  assert.equal(refusal.rule, 'no_workload');
  assert.ok(!JSON.stringify(refusal.body).includes('refs/tags/v'));

  const why = await dayfly.operate('why', refusal.body.refusal);
  assert.equal(why.code, 0, why.stderr);
  assert.match(why.stdout, /refs\/heads\/other/);
  assert.match(why.stdout, /refs\/tags\/v\*/);
});

test('the ledger holds, and an earlier head proves that nothing was cut off', async () => {
  await opened();
  const head = await dayfly.operate('ledger', 'head', '--json');
  assert.equal(head.code, 0, head.stderr);
  const file = join(dayfly.folder, 'head.json');
  await writeFile(file, head.stdout);
  await opened();
  const later = await dayfly.operate('ledger', 'verify', file);
  assert.equal(later.code, 0, later.stderr);
  const fsck = await dayfly.operate('ledger', 'fsck');
  assert.equal(fsck.code, 0, fsck.stderr);
  const { note } = JSON.parse(head.stdout);
  const served = await fetch(`${here()}/ledger/checkpoint`).then((response) => response.text());
  assert.equal(served.split('\n')[0], note.split('\n')[0]);
});

test('a lowered ceiling ends the open tasks that it would not have granted, by their number', async () => {
  const { client, granted } = await opened();
  const publish = JSON.stringify([{ type: 'artifact', actions: ['publish'], identifier: 'octo-repo/app' }]);
  await client.renew(granted.client_id, { resource: ARTIFACTS, authorization_details: publish });

  const file = join(dayfly.folder, 'tenants/strict/tenant.toml');
  const declared = await readFile(file, 'utf8');
  await writeFile(file, declared.replace('["read", "publish"]', '["read"]'));
  const dry = await dayfly.operate('apply', '--dry-run', '--json');
  assert.equal(dry.code, 0, dry.stderr);
  const { ends } = JSON.parse(dry.stdout);
  assert.ok(ends >= 1, dry.stdout);
  const reason = ['--reason', 'nothing is published this week'];
  const unasked = await dayfly.operate('apply', ...reason);
  assert.notEqual(unasked.code, 0);
  assert.match(unasked.stderr, new RegExp(`--ends ${ends}\\b`));
  await client.renew(granted.client_id, { resource: ARTIFACTS, authorization_details: publish });

  const applied = await dayfly.operate('apply', '--ends', `${ends}`, ...reason);
  assert.equal(applied.code, 0, applied.stderr);
  const over = await refused(client.renew(granted.client_id, { resource: ARTIFACTS }));
  assert.equal(over.rule, 'task_ended');

  await writeFile(file, declared);
  const restored = await dayfly.operate('apply', '--reason', 'back to work');
  assert.equal(restored.code, 0, restored.stderr);
});
