// The front door before clients that speak another protocol or far too fast: they are let go, others are served.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, request as http } from 'node:http';
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

/** The status of the answer to one request of Node's own client, and whether the connection outlived it. */
async function asked(agent, options, body) {
  const sent = http(`${dayfly.url}${options.path}`, { ...options, agent });
  sent.on('error', () => {});
  const answered = once(sent, 'response');
  sent.end(body);
  const [answer] = await answered;
  const closed = once(answer.socket, 'close');
  answer.resume();
  await closed;
  return answer.statusCode;
}

test('a client with huge headers is answered 431 and let go', async () => {
  const agent = new Agent({ keepAlive: true });
  const many = Object.fromEntries(Array.from({ length: 200 }, (_, n) => [`x-${n}`, 'y']));
  for (const headers of [{ 'x-long': 'x'.repeat(20_000) }, many]) {
    const status = await asked(agent, { path: '/plain/jwks', headers });
    assert.equal(status, 431);
  }
  agent.destroy();
  await served();
});

test('a request that two programs could read in two ways is refused, and what hides in it is not read', async () => {
  // As a proxy would that goes by the one length while the server goes by the other.
  const hidden = 'GET /plain/jwks HTTP/1.1\r\nHost: a\r\n\r\n';
  for (const headers of [
    { 'transfer-encoding': 'chunked', 'content-length': '4' },
    { 'content-length': ['0', String(hidden.length)] },
    { 'transfer-encoding': 'xchunked', 'content-length': String(hidden.length) },
  ]) {
    const { hostname, port } = new URL(dayfly.url);
    const socket = connect(Number(port), hostname);
    let heard = '';
    // Bytes as they come: Node's own client reads them too, and takes no text.
    socket.on('data', (bytes) => { heard += bytes.toString('latin1'); });
    socket.on('error', () => {});
    const closed = once(socket, 'close');
    const sent = http(`${dayfly.url}/plain/token`, {
      method: 'POST', headers, createConnection: () => socket,
    });
    sent.on('error', () => {});
    sent.end(hidden);
    await closed;
    const answers = heard.match(/HTTP\/1\.1 \d+/g) ?? [];
    assert.deepEqual(answers, ['HTTP/1.1 400'], JSON.stringify(headers));
    assert.ok(!heard.includes('"keys"'), heard);
  }
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
