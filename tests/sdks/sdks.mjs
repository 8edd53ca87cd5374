// Sdks: the official packages of four providers, at both ends of a webhook.
//
//   node sdks.mjs send                    signs the requests of a plan (JSON on stdin) and posts them over HTTPS
//   node sdks.mjs receive CERT KEY        an HTTPS receiver as the packages' pages show it; secrets as JSON on stdin
//
// Both print a line of JSON for each request. The certificate is trusted by way of NODE_EXTRA_CA_CERTS; nothing here
// switches its check off. What should come of a request is not said here but in tests/sdks.rs.

import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { sign as signGithub, verify as verifyGithub } from "@octokit/webhooks-methods";
import { Webhook as StandardWebhook } from "standardwebhooks";
import Stripe from "stripe";
import { Webhook as SvixWebhook } from "svix";

// Stripe's client wants a key; nothing here calls its API.
const stripe = new Stripe("sk_test_of_no_value");

// `sign` gives the headers that the provider sends, by the package's own signature; `verify` throws, or is false,
// where the package refuses.
const SDKS = {
  stripe: {
    sign: ({ secret, at, signed }) => ({
      "stripe-signature": stripe.webhooks.generateTestHeaderString({ payload: signed, secret, timestamp: at }),
    }),
    verify: (secret, headers, body) => stripe.webhooks.constructEvent(body, headers["stripe-signature"], secret),
  },
  svix: {
    sign: ({ secret, id, at, signed }) => ({
      "svix-id": id,
      "svix-timestamp": String(at),
      "svix-signature": new SvixWebhook(secret).sign(id, new Date(at * 1000), signed),
    }),
    verify: (secret, headers, body) => new SvixWebhook(secret).verify(body, headers),
  },
  standardwebhooks: {
    sign: ({ secret, id, at, signed }) => ({
      "webhook-id": id,
      "webhook-timestamp": String(at),
      "webhook-signature": new StandardWebhook(secret).sign(id, new Date(at * 1000), signed),
    }),
    verify: (secret, headers, body) => new StandardWebhook(secret).verify(body, headers),
  },
  octokit: {
    sign: async ({ secret, id, type, signed }) => ({
      "x-github-delivery": id,
      "x-github-event": type,
      "x-hub-signature-256": await signGithub(secret, signed),
    }),
    verify: (secret, headers, body) => verifyGithub(secret, body, headers["x-hub-signature-256"]),
  },
};

async function accepts(sdk, secrets, headers, body) {
  for (const secret of secrets) {
    try {
      if (await SDKS[sdk].verify(secret, headers, body)) return true;
    } catch {
      // Refused with this secret.
    }
  }
  return false;
}

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const stdin = () => JSON.parse(readFileSync(0, "utf8"));

// A request: sdk, name, secret (which signs), secrets (the receiver's), id, type, at (Unix seconds), signed and sent
// (the body when it was signed, and as it is sent).
async function send() {
  const { origin, requests } = stdin();
  for (const request of requests) {
    const headers = await SDKS[request.sdk].sign(request);
    const itself = await accepts(request.sdk, request.secrets, headers, request.sent);
    const answer = await fetch(`${origin}/webhooks/${request.sdk}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: Buffer.from(request.sent, "utf8"),
      signal: AbortSignal.timeout(30_000),
    });
    say({ name: request.name, status: answer.status, answer: await answer.text(), itself });
  }
}

function receive(cert, key) {
  const secrets = stdin();
  const server = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString("utf8");
    const sdk = request.url.split("/").pop();
    const verified = await accepts(sdk, [secrets[sdk]], request.headers, body);
    say({ sdk, verified, body });
    response.writeHead(verified ? 200 : 401).end();
  });
  server.listen(0, "127.0.0.1", () => say({ port: server.address().port }));
}

const [mode, ...rest] = process.argv.slice(2);
if (mode === "send") await send();
else if (mode === "receive") receive(...rest);
else throw new Error("type `node sdks.mjs send` or `node sdks.mjs receive CERT KEY`");
