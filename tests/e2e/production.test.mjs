// The README's section "Production", walked line by line: from `init` to a TLS server that an operator has logged in to.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { binary, freePort } from './lib/dayfly.mjs';
import { consent, startProvider } from './lib/provider.mjs';

let folder;
let provider;
const running = [];

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dayfly-production-'));
  provider = await startProvider({ ada: ['sre-leads'] });
  await mkdir(join(folder, 'bin'));
  await symlink(binary, join(folder, 'bin/dayfly'));
});
after(async () => {
  for (const child of running) child.kill('SIGKILL');
  await provider?.close();
  await rm(folder, { recursive: true, force: true });
});

/** The fenced blocks of the section, in order. */
async function section() {
  const readme = await readFile(fileURLToPath(new URL('../../README.md', import.meta.url)), 'utf8');
  const [, rest] = readme.split('\n## Production\n');
  const text = rest.split('\n## ')[0];
  return [...text.matchAll(/```(\w+)\n([\s\S]*?)```/g)].map(([, language, body]) => ({ language, body }));
}

test('every command of the section works, in its order', async () => {
  const [port, admin] = [await freePort(), await freePort()];
  const here = (text) => text
    .replaceAll('dayfly.example:8440', `localhost:${port}`)
    .replaceAll('dayfly.example:8441', `localhost:${admin}`)
    .replaceAll('dayfly.example', 'localhost')
    .replaceAll('0.0.0.0:8440', `0.0.0.0:${port}`)
    .replaceAll('0.0.0.0:8441', `0.0.0.0:${admin}`)
    .replaceAll('"https://idp.example"', `"${provider.url}"\nallow_private = true`);
  const env = {
    PATH: `${join(folder, 'bin')}:${process.env.PATH}`,
    HOME: folder,
    SSL_CERT_FILE: join(folder, 'dayfly/tls.crt'),
  };

  const walked = [];
  for (const { language, body } of await section()) {
    if (language === 'toml') {
      // The last block is for the tenant, and `config check` would have it only after the server's.
      const file = body.includes('[operators]') ? 'dayfly.toml' : 'tenants/main/people.toml';
      await writeFile(join(folder, 'dayfly', file), here(body));
      continue;
    }
    for (const line of body.trim().split('\n').map(here)) {
      const [, name, value] = line.match(/^export (\w+)=(\S+)$/) ?? [];
      if (name) {
        env[name] = value;
      } else if (line.startsWith('dayfly serve')) {
        await serve(line, env, `https://localhost:${port}`);
      } else {
        const { code, said } = await shell(line, env);
        assert.equal(code, 0, `${line}\n${said}`);
        walked.push([line, said]);
      }
    }
  }
  const said = (start) => walked.find(([line]) => line.startsWith(start))?.[1] ?? '';
  assert.match(said('dayfly login'), /logged in to https:\/\/localhost:\d+ as ada of .*: admin/);
  assert.match(said('dayfly ledger tail'), /trying it out/);
  assert.match(said('dayfly ledger tail'), new RegExp(`ada of ${provider.url}`));
  assert.match(said('dayfly logout'), /logged out/);
  const checked = await shell('dayfly config check --config dayfly/dayfly.toml', env);
  assert.equal(checked.code, 0, `with people who start tasks: ${checked.said}`);
});

/** Runs a line to its end, and enters the code of a login where one is asked for. */
async function shell(line, env) {
  const child = spawn('sh', ['-c', line], { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  let entered;
  const hear = (text) => {
    said += text;
    const place = said.match(/or open (\S+)\n/)?.[1];
    if (place && !entered) entered = consent(place, 'ada');
  };
  child.stdout.setEncoding('utf8').on('data', hear);
  child.stderr.setEncoding('utf8').on('data', hear);
  const [code] = await once(child, 'close');
  await entered;
  return { code, said };
}

async function serve(line, env, url) {
  const child = spawn('sh', ['-c', `exec ${line}`], { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
  running.push(child);
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text) => { said += text; });
  child.stderr.setEncoding('utf8').on('data', (text) => { said += text; });
  while (!said.includes('listening')) {
    assert.equal(child.exitCode, null, said);
    await new Promise((next) => setTimeout(next, 50));
  }
  assert.ok(said.includes(url), said);
}
