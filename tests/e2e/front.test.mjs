// The front door before clients that speak another protocol or far too fast: they are let go, others are served.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as http2 } from 'node:http2';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import { startDayfly } from './lib/dayfly.mjs';
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

async function served() {
  const answer = await fetch(`${dayfly.url}/plain/jwks`);
  assert.equal(answer.status, 200);
  assert.ok((await answer.json()).keys.length > 0);
}

test('a client of HTTP/2 is let go, however many streams it opens and resets', async () => {
  const session = http2(dayfly.url);
  const failures = [];
  session.on('error', (error) => failures.push(error));
  const closed = once(session, 'close');
  for (let stream = 0; stream < 1000 && !session.destroyed; stream += 1) {
    const request = session.request({ ':path': '/plain/jwks', 'x-long': 'x'.repeat(1000) });
    request.on('error', () => {});
    request.on('response', (headers) => failures.push(new Error(`answered ${headers[':status']}`)));
    request.close();
  }
  await closed;
  assert.ok(failures.every((error) => !error.message.startsWith('answered')), String(failures));
  await served();
});

test('a flood of pipelined garbage is answered once and closed', async () => {
  const { hostname, port } = new URL(dayfly.url);
  const socket = connect(Number(port), hostname);
  let answer = '';
  socket.setEncoding('utf8').on('data', (text) => { answer += text; });
  socket.on('error', () => {});
  const closed = once(socket, 'close');
  socket.write('GET /plain/jwks HTTP/1.1\nHost: a\n\n'.repeat(10_000));
  await closed;
  assert.ok((answer.match(/HTTP\/1\.1 /g) ?? []).length <= 1, answer.slice(0, 400));
  await served();
});
