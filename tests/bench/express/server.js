// The receiver that SendPilot's page on webhooks describes, in Express: verify the signature, answer 200. It
// stores nothing and remembers no event id; what it would do with the event is left out.
//
// Header `Webhook-Signature: t=<unix seconds>,s=<hex>`, HMAC-SHA256 over `<t>.<raw body>`, five minutes of grace.

const crypto = require('node:crypto');
const express = require('express');

const secret = process.env.BENCH_SECRET;
const TOLERANCE_S = 300;

const app = express();

app.post('/webhooks/sendpilot', express.raw({ type: 'application/json', limit: '5mb' }), (req, res) => {
  if (!verify(req.body, req.headers['webhook-signature'])) {
    return res.status(401).send('Invalid signature');
  }
  const event = JSON.parse(req.body.toString('utf8'));
  handle(event);
  res.status(200).send('OK');
});

function verify(rawBody, header) {
  const parts = Object.fromEntries((header || '').split(',').map((part) => part.split('=')));
  const age = Math.abs(Math.floor(Date.now() / 1000) - Number(parts.t));
  if (!parts.s || !(age <= TOLERANCE_S)) {
    return false;
  }
  const expected = crypto.createHmac('sha256', secret).update(`${parts.t}.`).update(rawBody).digest();
  const given = Buffer.from(parts.s, 'hex');
  return given.length === expected.length && crypto.timingSafeEqual(given, expected);
}

function handle(event) {
  switch (event.eventType) {
    case 'message.received':
    case 'connection.accepted':
      break;
  }
}

const server = app.listen(0, '127.0.0.1', () => {
  console.log(`127.0.0.1:${server.address().port}`);
});
