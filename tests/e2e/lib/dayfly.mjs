// One `dayfly serve` process with a folder of its own, and the commands run beside it.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The binary under test. */
export const binary = process.env.DAYFLY_BIN ?? fileURLToPath(new URL('../../../target/debug/dayfly', import.meta.url));

/** Every character that clients of `client_secret_basic` are known to get wrong. */
export const SECRET = 's3cr:et % + & = ü end';
export const ARTIFACTS = 'https://artifacts.example';
export const DEPLOY = 'https://deploy.example/api';

function tenant(platform, nonce, more) {
  return `
dpop_nonce = "${nonce}"

[issuer.ci]
kind = "github"
url = "${platform.url}"
allow_private = true

[owner.team-platform]
name = "Platform team"
contact = "platform@example.com"
members = ["group:platform"]

[resource.artifacts]
url = "${ARTIFACTS}"
secret_file = "artifacts.secret"

[resource.deploy]
url = "${DEPLOY}"
secret_file = "deploy.secret"
signing = "RS256"

[type.deployment]
fields = { region = "set" }

[workload.release]
owner = "team-platform"
kind = "ci"
purpose = "publish release artifacts"
match = { issuer = "ci", repository_id = "1296269", ref = ["refs/heads/main", "refs/tags/v*"] }
heartbeat = { mode = "auto", every = "30s", grace = "5m" }
token = { ttl = "5m", binding = "required" }
access = [
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo-repo/*", scope = "artifacts:read" },
  { resource = "artifacts", type = "artifact", actions = ["read", "publish"], identifier = "octo-repo/*", scope = "artifacts:publish" },
  { resource = "deploy", type = "deployment", actions = ["start"], identifier = "octo-repo", region = ["eu", "us"] },
]

[workload.nightly]
owner = "team-platform"
kind = "batch"
purpose = "report on artifacts at night"
match = { issuer = "ci", repository_id = "1296269", ref = "refs/heads/nightly" }
token = { ttl = "5m", binding = "optional" }
access = [
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo-repo/*", scope = "artifacts:read" },
]
${more}`;
}

/**
 * Starts a server with the tenants `strict` (a nonce is demanded) and `plain`; `more` is declared too, with a suffix for `{-tenant}` that `strict` has not, and `lines` end
 * the configuration.
 */
export async function startDayfly(platform, more = '', lines = '') {
  const folder = await mkdtemp(join(tmpdir(), 'dayfly-e2e-'));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const config = join(folder, 'dayfly.toml');
  await writeFile(
    config,
    `public_url = "${url}"\nlisten = "127.0.0.1:${port}"\ndata = "data"\nstore = "sqlite"\ntenants = "tenants"\n${lines}`,
  );
  for (const [name, nonce] of [['strict', 'required'], ['plain', 'optional']]) {
    const path = join(folder, 'tenants', name);
    await mkdir(join(path, 'policies'), { recursive: true });
    await writeFile(join(path, 'policies/baseline.cedar'), 'permit (principal, action, resource);\n');
    await writeFile(join(path, 'tenant.toml'), tenant(platform, nonce, more.replaceAll('{-tenant}', name === 'strict' ? '' : `-${name}`)));
    await writeFile(join(path, 'artifacts.secret'), `${SECRET}\n`, { mode: 0o600 });
    await writeFile(join(path, 'deploy.secret'), 'of-the-deployer\n', { mode: 0o600 });
  }

  const dayfly = { url, folder, config, issuer: (name) => `${url}/${name}`, log: '' };
  let server;

  /** Starts the process and waits until it answers. */
  dayfly.start = async () => {
    server = spawn(binary, ['serve', '--config', config], { stdio: ['ignore', 'pipe', 'pipe'] });
    const keep = (text) => { dayfly.log = (dayfly.log + text).slice(-65_536); };
    server.stdout.setEncoding('utf8').on('data', keep);
    server.stderr.setEncoding('utf8').on('data', keep);
    const exited = once(server, 'exit');
    for (let left = 600; ; left -= 1) {
      const answered = await fetch(`${url}/plain/jwks`).then((response) => response.ok, () => false);
      if (answered) return;
      const gone = await Promise.race([exited, new Promise((next) => setTimeout(next, 50, null))]);
      if (gone || left === 0) throw new Error(`dayfly serve did not get ready:\n${dayfly.log}`);
    }
  };

  /** Ends the process by this signal and waits until it is gone. */
  dayfly.halt = async (signal = 'SIGTERM') => {
    if (server.exitCode !== null || server.signalCode !== null) return;
    const exited = once(server, 'exit');
    server.kill(signal);
    await exited;
  };

  /** Ends the process and removes its folder. */
  dayfly.stop = async () => {
    await dayfly.halt();
    await rm(folder, { recursive: true, force: true });
  };

  /** Runs an operator's command for the tenant `strict`. */
  dayfly.operate = (...args) => run([...args, '--tenant', 'strict', '--config', config]);

  await dayfly.start();
  return dayfly;
}

/** Runs a command of the binary to its end; `heard` is given what it says meanwhile. */
export async function run(args, { env = {}, input, heard } = {}) {
  const child = spawn(binary, args, {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env },
    stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
  });
  const result = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text) => { result.stdout += text; });
  child.stderr.setEncoding('utf8').on('data', (text) => { result.stderr += text; heard?.(result.stderr); });
  if (input !== undefined) child.stdin.end(input);
  const [code, signal] = await once(child, 'close');
  return { ...result, code, signal };
}

export async function freePort() {
  const probe = createServer();
  probe.listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}
