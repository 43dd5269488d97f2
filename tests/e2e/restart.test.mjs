// What was answered outlives `kill -9`: open tasks stay open, ended ones stay ended.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ARTIFACTS, SECRET, startDayfly } from './lib/dayfly.mjs';
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

async function killAndStart() {
  await dayfly.halt('SIGKILL');
  await dayfly.start();
}

test('an open task, its tokens and its end outlive a killed server', async () => {
  const issuer = dayfly.issuer('strict');
  const client = await Client.of(issuer);
  const proof = await platform.token(platform.run(), { aud: issuer });
  const granted = await client.grant(proof, { resource: ARTIFACTS });
  const live = async () => (await introspect(client.as, 'artifacts', SECRET, granted.access_token)).active;

  await killAndStart();
  assert.equal(await live(), true);
  const again = await client.grant(proof, { resource: ARTIFACTS });
  assert.equal(again.client_id, granted.client_id);

  const path = `/clients/${granted.client_id}/end`;
  const ended = await client.call('POST', path, granted.access_token, { outcome: 'completed' });
  await killAndStart();
  assert.equal(await live(), false);
  const repeated = await client.call('POST', path, granted.access_token, { outcome: 'completed' });
  assert.equal(repeated.at, ended.at);
  const renewal = await refused(client.renew(granted.client_id, { resource: ARTIFACTS }));
  assert.equal(renewal.rule, 'task_ended');
});
