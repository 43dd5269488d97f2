// `dayfly run` as a step of a job, against a real server and the platform's own way to give tokens.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createServer } from 'node:http';
import { once } from 'node:events';
import * as oauth from 'oauth4webapi';
import { ARTIFACTS, run, startDayfly } from './lib/dayfly.mjs';
import { discover } from './lib/client.mjs';
import { startPlatform } from './lib/platform.mjs';

let platform;
let dayfly;
let store;

before(async () => {
  platform = await startPlatform();
  store = await startStore();
  dayfly = await startDayfly(platform, `
[resource.store]
url = "${store.url}"

[workload.archive]
owner = "team-platform"
kind = "ci"
purpose = "keep what was built"
match = { issuer = "ci", repository_id = "1296269", ref = "refs/heads/archive" }
access = [{ resource = "store", type = "object", actions = ["write"], identifier = "octo-repo/*" }]
`);
});
after(async () => {
  await dayfly?.stop();
  await store?.close();
  await platform?.close();
});

/** A resource that verifies tokens and proofs by itself, as RFC 9068 and RFC 9449 say. */
async function startStore() {
  const resource = { url: '', seen: [] };
  const server = createServer(async (message, response) => {
    const request = new Request(new URL(message.url, resource.url), {
      method: message.method,
      headers: new Headers(Object.entries(message.headers)),
    });
    try {
      const as = await discover(dayfly.issuer('strict'));
      const claims = await oauth.validateJwtAccessToken(as, request, resource.url, {
        [oauth.allowInsecureRequests]: true,
        requireDPoP: true,
      });
      resource.seen.push({ path: message.url, claims });
      response.end(`stored for ${claims.sub}\n`);
    } catch (error) {
      response.statusCode = 401;
      response.end(`${error.message}\n`);
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  resource.url = `http://127.0.0.1:${server.address().port}`;
  resource.close = async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  };
  return resource;
}

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
  const shown = await dayfly.operate('task', 'show', task, '--json');
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
    ['run', '--resource', 'artifacts', '--', process.execPath, '-e', `
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

test('a job can see what the platform says of it and which clause it fails, and spends nothing', async () => {
  const env = job(platform.run({ ref: 'refs/heads/other' }));
  const asked = await run(['proof', '--json'], { env });
  assert.equal(JSON.parse(asked.stdout).ref, 'refs/heads/other');
  assert.doesNotMatch(asked.stdout, /ey[\w-]+\.ey[\w-]+\./);
  assert.equal(asked.code, 126, asked.stderr);
  assert.match(asked.stderr, /no_workload/);
  // Where the declared folder is at hand, each workload's clause is named with what it wants.
  const read = await run(['proof', '--tenant', 'strict', '--config', dayfly.config], {
    env: { ...env, DAYFLY_SERVER: dayfly.url },
  });
  assert.equal(read.code, 0, read.stderr);
  assert.match(read.stderr, /release.*refs\/tags\/v\*/);

  const workflow = platform.run();
  const looked = await run(['proof'], { env: job(workflow) });
  assert.equal(looked.code, 0, looked.stderr);
  const done = await run(['run', '--resource', 'artifacts', '--', 'true'], { env: job(workflow) });
  assert.equal(done.code, 0, done.stderr);
});

test('plain curl reaches a resource and never holds a token', async () => {
  const workflow = platform.run({ ref: 'refs/heads/archive' });
  const script = 'curl --silent --show-error --fail --request PUT --data x "${DAYFLY_STORE_URL}octo-repo/app.tgz"';
  const done = await run(['run', '--proxy', 'store', '--', 'sh', '-c', script], { env: job(workflow) });
  assert.equal(done.code, 0, done.stderr);
  assert.equal(done.stdout, 'stored for workload:archive\n');
  const { path, claims } = store.seen.at(-1);
  assert.equal(path, '/octo-repo/app.tgz');
  assert.match(await recorded(claims.task), /completed/);
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
