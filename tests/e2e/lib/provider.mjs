// A real OpenID provider with device flow, and people who answer its pages by plain HTTP.

import { createServer } from 'node:http';
import { once } from 'node:events';
import { SignJWT, exportJWK, generateKeyPair } from 'jose';
import { Provider } from 'oidc-provider';

export const CLIENT = 'dayfly';
export const TASKS = 'dayfly-tasks';

/** Starts a provider whose people are `{ name: [group, …] }`; `close()` stops it. */
export async function startProvider(people) {
  const { privateKey } = await generateKeyPair('RS256', { extractable: true });
  const key = { ...(await exportJWK(privateKey)), kid: 'idp-1', use: 'sig', alg: 'RS256' };
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${server.address().port}`;
  const client = (id, more = {}) => ({
    client_id: id,
    client_name: id,
    token_endpoint_auth_method: 'none',
    application_type: 'native',
    grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
    response_types: [],
    redirect_uris: [],
    ...more,
  });
  const provider = new Provider(url, {
    clients: [client(CLIENT), client(TASKS, { require_auth_time: true }), client('another')],
    jwks: { keys: [key] },
    cookies: { keys: ['a key of the test'] },
    features: {
      deviceFlow: { enabled: true },
      devInteractions: { enabled: true },
      revocation: { enabled: true },
    },
    scopes: ['openid', 'offline_access', 'groups', 'email'],
    claims: { openid: ['sub'], groups: ['groups'], email: ['email', 'email_verified'] },
    conformIdTokenClaims: false,
    issueRefreshToken: (_ctx, _client, code) => code.scopes.has('offline_access'),
    rotateRefreshToken: true,
    ttl: { IdToken: 3600, AccessToken: 3600, DeviceCode: 600, RefreshToken: 3600, Grant: 3600, Interaction: 600, Session: 3600 },
    findAccount: (_ctx, id) => ({
      accountId: id,
      claims: () => ({ sub: id, groups: people[id] ?? [], email: `${id}@example.com`, email_verified: true }),
    }),
  });
  server.on('request', provider.callback());

  /** What the provider would sign, changed: only whoever has its key can make these. */
  const token = (claims, header = {}) => {
    const now = Math.floor(Date.now() / 1000);
    const all = { iss: url, aud: CLIENT, iat: now, exp: now + 300, sub: 'mona', groups: people.mona, ...claims };
    return new SignJWT(all).setProtectedHeader({ alg: 'RS256', kid: 'idp-1', ...header }).sign(privateKey);
  };

  const close = async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  };
  return { url, token, close };
}

/** Answers the pages of the provider from `place` on as this person, who says yes or, with `deny`, no. */
export async function consent(place, person, { deny = false } = {}) {
  const jar = [];
  let url = new URL(place);
  let body;
  for (let page = 0; page < 30; page += 1) {
    const cookies = jar.filter(({ path }) => url.pathname.startsWith(path)).map(({ name, value }) => `${name}=${value}`);
    const response = await fetch(url, {
      method: body ? 'POST' : 'GET',
      body,
      redirect: 'manual',
      headers: { cookie: cookies.join('; ') },
    });
    for (const line of response.headers.getSetCookie()) keep(jar, line);
    if (response.status >= 300 && response.status < 400) {
      url = new URL(response.headers.get('location'), url);
      body = undefined;
      continue;
    }
    const html = await response.text();
    const form = html.match(/<form[^>]*?action="([^"]*)"[^>]*>([\s\S]*?)<\/form>/);
    if (!form || deny === 'denied') return html;
    url = new URL(form[1].replaceAll('&amp;', '&'), url);
    body = new URLSearchParams();
    for (const [input] of form[2].matchAll(/<input[^>]*>/g)) {
      const name = input.match(/name="([^"]*)"/)?.[1];
      if (name) body.set(name, input.match(/value="([^"]*)"/)?.[1] ?? '');
    }
    if (body.has('login')) {
      body.set('login', person);
      body.set('password', 'any');
    }
    if (deny && body.has('confirm')) {
      body.delete('confirm');
      body.set('abort', 'yes');
      deny = 'denied';
    }
  }
  throw new Error('the provider asks for ever');
}

function keep(jar, line) {
  const [pair, ...attributes] = line.split(/; */);
  const name = pair.slice(0, pair.indexOf('='));
  const value = pair.slice(pair.indexOf('=') + 1);
  const path = attributes.find((text) => /^path=/i.test(text))?.slice(5) ?? '/';
  const held = jar.findIndex((cookie) => cookie.name === name && cookie.path === path);
  if (held >= 0) jar.splice(held, 1);
  if (value) jar.push({ name, value, path });
}

/** Gets tokens for a client by device flow, as a person's own program would. */
export async function tokens(provider, client, person, scope = 'openid') {
  const post = async (path, form) => {
    const response = await fetch(`${provider.url}${path}`, { method: 'POST', body: new URLSearchParams(form) });
    return response.json();
  };
  const begun = await post('/device/auth', { client_id: client, scope });
  await consent(begun.verification_uri_complete, person);
  const grant = 'urn:ietf:params:oauth:grant-type:device_code';
  return post('/token', { grant_type: grant, device_code: begun.device_code, client_id: client });
}
