// A local stand-in for GitHub Actions: an issuer with discovery and keys, and the tokens of its jobs.

import { createServer } from 'node:http';
import { once } from 'node:events';
import { randomUUID } from 'node:crypto';
import { SignJWT, exportJWK, generateKeyPair } from 'jose';

let lastRun = 7_000_000_000 + process.pid * 1000;

/** Starts the issuer; `close()` stops it. */
export async function startPlatform() {
  const { privateKey, publicKey } = await generateKeyPair('RS256');
  const keys = [{ ...(await exportJWK(publicKey)), kid: 'platform-1', use: 'sig', alg: 'RS256' }];
  const platform = { url: '', tokensGiven: 0 };

  const server = createServer(async (request, response) => {
    const url = new URL(request.url, platform.url);
    const answer = (body) => {
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(body));
    };
    if (url.pathname === '/.well-known/openid-configuration') {
      return answer({ issuer: platform.url, jwks_uri: `${platform.url}/jwks` });
    }
    if (url.pathname === '/jwks') {
      return answer({ keys });
    }
    if (url.pathname === '/job-token' && request.headers.authorization === 'Bearer of-the-job') {
      // As at ACTIONS_ID_TOKEN_REQUEST_URL: each request gives a fresh token of the same job.
      platform.tokensGiven += 1;
      const run = JSON.parse(url.searchParams.get('run'));
      return answer({ value: await platform.token(run, { aud: url.searchParams.get('audience') }) });
    }
    response.statusCode = 404;
    response.end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  platform.url = `http://127.0.0.1:${server.address().port}`;

  /** A run that no other test has seen. */
  platform.run = (claims = {}) => {
    lastRun += 1;
    return {
      repository: 'octo-org/octo-repo',
      repository_id: '1296269',
      repository_owner: 'octo-org',
      repository_owner_id: '583231',
      ref: 'refs/heads/main',
      event_name: 'push',
      run_id: `${lastRun}`,
      run_attempt: '1',
      check_run_id: `${lastRun}9`,
      sub: 'repo:octo-org@583231/octo-repo@1296269:ref:refs/heads/main',
      ...claims,
    };
  };

  /** A token of a run. `header` and `claims` override what the platform would say. */
  platform.token = (run, claims = {}, header = {}) => {
    const now = Math.floor(Date.now() / 1000);
    const all = { iss: platform.url, jti: randomUUID(), iat: now, nbf: now - 5, exp: now + 300, ...run, ...claims };
    return new SignJWT(all)
      .setProtectedHeader({ typ: 'JWT', alg: 'RS256', kid: 'platform-1', ...header })
      .sign(privateKey);
  };

  platform.close = async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  };
  return platform;
}
