// `dayfly run` as a step of a job, against a real server and the platform's own way to give tokens.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ARTIFACTS, run, startDayfly } from './lib/dayfly.mjs';
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

/** The environment of a job with `permissions: id-token: write`. */
function job(workflow = platform.run()) {
  const url = new URL(`${platform.url}/job-token`);
  url.searchParams.set('run', JSON.stringify(workflow));
  return {
    DAYFLY_SERVER: dayfly.issuer('strict'),
    ACTIONS_ID_TOKEN_REQUEST_URL: url.href,
    ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'of-the-job',
  };
}

/** What the record says of a task. */
async function recorded(task) {
  const shown = await run(['--config', dayfly.config, '--tenant', 'strict', 'task', 'show', task, '--json']);
  assert.equal(shown.code, 0, shown.stderr);
  return shown.stdout;
}

test('a command runs as one task, which ends with it', async () => {
  const script = 'test -z "$ACTIONS_ID_TOKEN_REQUEST_TOKEN" && echo "task=$DAYFLY_TASK"';
  const done = await run(['run', '--resource', 'artifacts', '--', 'sh', '-c', script], { env: job() });
  assert.equal(done.code, 0, done.stderr);
  const [, task] = done.stdout.match(/^task=(task_\w+)$/m);
  assert.match(await recorded(task), /completed/);
});

test("the command's exit code comes through and the task fails with it", async () => {
  const done = await run(['run', '--resource', 'artifacts', '--', 'sh', '-c', 'echo "$DAYFLY_TASK"; exit 7'], { env: job() });
  assert.equal(done.code, 7, done.stderr);
  assert.match(await recorded(done.stdout.trim()), /failed/);
});

test('a command gets fresh tokens over loopback', async () => {
  const done = await run(
    ['run', '--', process.execPath, '-e', `
      const { DAYFLY_TOKEN_URL: url, DAYFLY_TOKEN_SECRET: secret } = process.env;
      fetch(url + '?resource=artifacts', { headers: { authorization: 'Bearer ' + secret } })
        .then((response) => response.json())
        .then((answer) => console.log(JSON.stringify(answer)));
    `],
    { env: job() },
  );
  assert.equal(done.code, 0, done.stderr);
  const text = JSON.stringify(JSON.parse(done.stdout));
  const [, payload] = text.match(/ey[\w-]+\.(ey[\w-]+)\.[\w-]+/);
  assert.equal(JSON.parse(Buffer.from(payload, 'base64url')).aud, ARTIFACTS);
});

test('a refused job exits with 126 and says which rule refused', async () => {
  const pull = platform.run({ event_name: 'pull_request', ref: 'refs/pull/1/merge' });
  const done = await run(['run', '--resource', 'artifacts', '--', 'true'], { env: job(pull) });
  assert.equal(done.code, 126, done.stderr);
  assert.match(done.stderr, /ref_[0-7][0-9a-hjkmnp-tv-z]{25}/);
});

test('a second run of the same job is refused while its task cannot open again', async () => {
  const workflow = platform.run();
  const first = await run(['run', '--resource', 'artifacts', '--', 'true'], { env: job(workflow) });
  assert.equal(first.code, 0, first.stderr);
  const second = await run(['run', '--resource', 'artifacts', '--', 'true'], { env: job(workflow) });
  assert.equal(second.code, 126, second.stderr);
});
