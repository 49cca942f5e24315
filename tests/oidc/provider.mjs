// An OpenID provider for the tests: oidc-provider (panva), in memory, on a loopback port of its own.
//
//     node provider.mjs MODULES
//
// Reads lines of JSON from standard input and answers each with one line: {"configure": {…}} starts it with these clients and
// prints its port first. Users log in by their name alone; the password is their name backwards.

import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';
import { generateKeyPairSync } from 'node:crypto';

const { default: Provider } = await import(pathToFileURL(join(process.argv[2], 'oidc-provider/lib/index.js')).href);

// What the package says of its own defaults is for developers.
for (const level of ['warn', 'info', 'log']) console[level] = () => {};

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const key = { ...privateKey.export({ format: 'jwk' }), kid: 'k1', use: 'sig', alg: 'ES256' };

let provider;
const server = createServer((request, response) => handle(request, response));
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
const { port } = server.address();
const issuer = `http://127.0.0.1:${port}`;

function escaped(text) {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

function body(request) {
  return new Promise((done) => {
    let text = '';
    request.on('data', (part) => { text += part; });
    request.on('end', () => done(new URLSearchParams(text)));
  });
}

async function interaction(request, response) {
  const { uid, prompt } = await provider.interactionDetails(request, response);
  const action = new URL(request.url, issuer).pathname;
  if (request.method === 'POST') {
    const form = await body(request);
    if (form.has('cancel')) {
      const result = { error: 'access_denied', error_description: 'The user said no' };
      return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
    }
    const name = form.get('login') ?? '';
    if (form.get('password') !== [...name].reverse().join('')) {
      response.writeHead(403, { 'content-type': 'text/plain' }).end('wrong');
      return undefined;
    }
    const result = { login: { accountId: name, amr: ['pwd', 'otp', 'mfa'], acr: 'urn:test:two', remember: true } };
    return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
  }
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' });
  response.end(`<!DOCTYPE html><html lang="en"><title>Provider</title><h1>${escaped(prompt.name)}</h1>
    <form method="post" action="${escaped(action)}"><label>Login <input name="login" autofocus></label>
    <label>Password <input name="password" type="password"></label><button>Go</button></form>
    <form method="post" action="${escaped(action)}"><input type="hidden" name="cancel" value="1"><button>Cancel</button></form>
    <!-- ${escaped(uid)} -->`);
  return undefined;
}

async function handle(request, response) {
  try {
    if (!provider) {
      response.writeHead(503).end();
    } else if (request.url.startsWith('/interaction/')) {
      await interaction(request, response);
    } else {
      await callback(request, response);
    }
  } catch (error) {
    response.writeHead(500, { 'content-type': 'text/plain' }).end(String(error));
  }
}

let callback;

function configure({ clients }) {
  provider = new Provider(issuer, {
    clients,
    jwks: { keys: [key] },
    cookies: { keys: ['tests'] },
    claims: { openid: ['sub', 'sid', 'auth_time', 'acr', 'amr'] },
    acrValues: ['urn:test:two'],
    enabledJWA: { idTokenSigningAlgValues: ['ES256'] },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    pkce: { required: () => true, methods: ['S256'] },
    // Everybody agrees to what our own gateway asks.
    loadExistingGrant: async (ctx) => {
      const grant = new ctx.oidc.provider.Grant({
        clientId: ctx.oidc.client.clientId,
        accountId: ctx.oidc.session.accountId,
      });
      grant.addOIDCScope('openid');
      await grant.save();
      return grant;
    },
    interactions: { url: (_, { uid }) => `/interaction/${uid}` },
    features: {
      devInteractions: { enabled: false },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: (ctx, form) => {
          ctx.body = `<!DOCTYPE html><html lang="en"><title>Out</title><h1>log out?</h1>${form}
            <button type="submit" form="op.logoutForm" name="logout" value="yes">Yes</button>`;
        },
      },
    },
    ttl: { Session: 3600, Grant: 3600, Interaction: 3600, IdToken: 3600, AccessToken: 3600, AuthorizationCode: 60 },
    renderError: (ctx, out) => { ctx.body = JSON.stringify(out); },
  });
  callback = provider.callback();
  return issuer;
}

console.error(`provider at ${issuer}`);
process.stdout.write(`${port}\n`);
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  let answer = null;
  if (order.configure) answer = configure(order.configure);
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
