// A resource that asks for each use, by plain requests of AuthZEN, while a command works through
// `dayfly run`.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { run, startDayfly } from './lib/dayfly.mjs';
import { startPlatform } from './lib/platform.mjs';

let platform;
let dayfly;
let shelf;

before(async () => {
  platform = await startPlatform();
  shelf = await startShelf();
  dayfly = await startDayfly(platform, `
[resource.shelf]
url = "${shelf.url}"
secret_file = "deploy.secret"
reports = true

[workload.shelve]
owner = "team-platform"
kind = "ci"
purpose = "put books on the shelf"
match = { issuer = "ci", repository_id = "1296269", ref = "refs/heads/shelve" }
access = [{ resource = "shelf", type = "book", actions = ["put", "get"], identifier = "octo/*" }]
`);
});
after(async () => {
  await dayfly?.stop();
  await shelf?.close();
  await platform?.close();
});

const ACTIONS = { GET: 'get', PUT: 'put', DELETE: 'delete' };

/** A resource that knows nothing of tokens: it hands on what it was shown and obeys the decision. */
async function startShelf() {
  const resource = { url: '', answers: [] };
  const server = createServer(async (message, response) => {
    const [scheme, token] = (message.headers.authorization ?? '').split(' ');
    const payload = JSON.parse(Buffer.from((token ?? '').split('.')[1] ?? '', 'base64url') || '{}');
    const request = {
      subject: {
        type: 'credential',
        id: payload.sub ?? 'nobody',
        properties: {
          token,
          // Under Bearer there is no proof, and a bound token is denied.
          ...(scheme === 'DPoP' && { dpop: message.headers.dpop, method: message.method, url: resource.url + message.url }),
        },
      },
      action: { name: ACTIONS[message.method] },
      resource: { type: 'book', id: message.url.slice(1) },
      context: { agent: message.headers['user-agent'] ?? '' },
    };
    const point = await (await fetch(`${dayfly.url}/.well-known/authzen-configuration/strict`)).json();
    const answer = await fetch(point.access_evaluation_endpoint, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'x-request-id': `r${resource.answers.length}`,
        authorization: `Basic ${Buffer.from('shelf:of-the-deployer').toString('base64')}`,
      },
      body: JSON.stringify(request),
    });
    assert.equal(answer.headers.get('x-request-id'), `r${resource.answers.length}`);
    const decision = await answer.json();
    resource.answers.push({ status: answer.status, decision, request });
    response.statusCode = decision.decision === true ? 200 : 403;
    response.end(`${decision.context.reason ?? 'done'}\n`);
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

function job() {
  const url = new URL(`${platform.url}/job-token`);
  url.searchParams.set('run', JSON.stringify(platform.run({ ref: 'refs/heads/shelve' })));
  return {
    DAYFLY_SERVER: dayfly.issuer('strict'),
    ACTIONS_ID_TOKEN_REQUEST_URL: url.href,
    ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'of-the-job',
  };
}

/** Looks again until it is so, for ten seconds unless it may take longer. */
async function until(look, tries = 100) {
  for (let left = tries; left > 0; left -= 1) {
    const found = await look();
    if (found) return found;
    await new Promise((next) => setTimeout(next, 100));
  }
  throw new Error(`it never was:\n${dayfly.log}`);
}

/** What a review says of the uses of the one workload. */
async function reviewed() {
  const shown = await dayfly.operate('review', '--owner', 'team-platform', '--json');
  const { workloads } = JSON.parse(shown.stdout);
  return workloads.find(({ workload }) => workload === 'shelve').access[0].used;
}

test('each use is asked for, decided and found in the trace', async () => {
  // The server looks at what is declared soon after its start: uses count as reported from then on.
  await until(reviewed);
  const script = `
    const at = process.env.DAYFLY_SHELF_URL;
    const say = async (method, path) => {
      const answer = await fetch(at + path, { method });
      console.log(method, path, answer.status, (await answer.text()).trim());
    };
    console.log('task=' + process.env.DAYFLY_TASK);
    await say('PUT', 'octo/one');
    await say('GET', 'octo/one');
    await say('GET', 'other/one');
    await say('DELETE', 'octo/one');
  `;
  const done = await run(
    ['run', '--resource', 'shelf', '--proxy', 'shelf', '--', process.execPath, '--input-type=module', '-e', script],
    { env: job() },
  );
  assert.equal(done.code, 0, done.stderr);
  const [task, ...lines] = done.stdout.trim().split('\n');
  assert.deepEqual(lines, [
    'PUT octo/one 200 done',
    'GET octo/one 200 done',
    'GET other/one 403 access',
    'DELETE octo/one 403 access',
  ]);
  assert.ok(shelf.answers.every(({ status }) => status === 200), 'a denial is an answer');

  // What was shown once cannot be shown again, nor by anybody once the run is over.
  const again = async () => {
    const answer = await fetch(`${dayfly.issuer('strict')}/access/v1/evaluations`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        authorization: `Basic ${Buffer.from('shelf:of-the-deployer').toString('base64')}`,
      },
      body: JSON.stringify({ evaluations: shelf.answers.map(({ request }) => request) }),
    });
    return (await answer.json()).evaluations;
  };
  assert.ok((await again()).every(({ decision }) => decision === false));

  const id = task.slice('task='.length);
  const trace = await dayfly.operate('trace', id);
  assert.equal(trace.code, 0, trace.stderr);
  assert.match(trace.stdout, /^GONE .*; 2 uses reported$/m);
  assert.match(trace.stdout, /use\.allowed/);
  assert.match(trace.stdout, /use\.denied/);

  const refusal = shelf.answers[3].decision.context.refusal;
  const why = await dayfly.operate('why', refusal);
  assert.match(why.stdout, /not_covered/);

  // The server counts uses when it looks, once a minute.
  await until(async () => (await reviewed())?.times === 2, 900);
  const review = await dayfly.operate('review', '--owner', 'team-platform');
  assert.match(review.stdout, /may shelf book\(.*granted in 1, used 2 times, the last .* \(reported since .*\)$/m);
});

test('a plain request of AuthZEN that shows no token is a denial and no error', async () => {
  const answer = await fetch(`${dayfly.issuer('strict')}/access/v1/evaluation`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json; charset=utf-8',
      authorization: `Basic ${Buffer.from('shelf:of-the-deployer').toString('base64')}`,
    },
    body: JSON.stringify({
      subject: { type: 'user', id: 'alice@example.com' },
      resource: { type: 'book', id: 'octo/one' },
      action: { name: 'get', properties: { method: 'GET' } },
      context: { time: '1985-10-26T01:22-07:00' },
    }),
  });
  assert.equal(answer.status, 200);
  assert.equal((await answer.json()).decision, false);
});
