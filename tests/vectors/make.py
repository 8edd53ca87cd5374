#!/usr/bin/env python3
"""Makes tests/vectors/made.json: for each preset a good request, a tampered one and, where there is a window, one that
is just in it, one that is a second too old and one that is a second too far ahead.

It is written from each provider's facts and knows nothing of presets.yaml or of the engine: two readings of the same
facts that agree. Keys are made from fixed seeds, so that the file comes out the same every time. Needs the package
`cryptography` for public keys and certificates.

    python3 tests/vectors/make.py            writes made.json
    python3 tests/vectors/make.py --check    ends with 1 where made.json is another
"""

import base64
import datetime
import hashlib
import hmac as hmac_
import json
import pathlib
import random
import sys
import urllib.parse
import zlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

NOW = 1_790_000_000  # 2026-09-21T14:13:20Z
URL = "https://hooks.example.com/in/door?from=provider&x=%41%2F"
SOURCE = "made by tests/vectors/make.py from the facts of docs/providers.md"
vectors = []

# === what every provider needs ===


def as_bytes(part):
    return part if isinstance(part, bytes) else str(part).encode()


def joined(parts):
    return b"".join(as_bytes(part) for part in parts)


def mac(key, *parts, alg="sha256"):
    return hmac_.new(as_bytes(key), joined(parts), alg).digest()


def hex_(key, *parts, alg="sha256"):
    return mac(key, *parts, alg=alg).hex()


def b64(data):
    return base64.b64encode(data).decode()


def b64_(key, *parts, alg="sha256"):
    return b64(mac(key, *parts, alg=alg))


def b64url_(key, *parts):
    return base64.urlsafe_b64encode(mac(key, *parts)).decode().rstrip("=")


def unb64(text):
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def rfc3339(t, fraction=""):
    return datetime.datetime.fromtimestamp(t, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z"


def http_date(t):
    return datetime.datetime.fromtimestamp(t, datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")


def placed(places):
    """A JSON object with a value at each dotted path; numbers in a path are positions of a list."""
    document = {"note": "kept as it is: caf\u00e9 / \U0001f98a"}
    for path, value in places.items():
        at = document
        *names, last = path.split(".")
        for name in names:
            at = at.setdefault(name, {})
        at[last] = value
    return document


def written(document):
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def vector(name, what, secret, request, now, valid, reason=None, **more):
    kind = "generated" if valid else "derived"
    made = {"id": f"made-{name}-{what}", "provider": name, "secret": secret, "method": request.get("method", "POST")}
    made["url"] = request.get("url")
    made["headers"] = request["headers"]
    body = request["body"]
    try:
        made["body"] = body.decode()
    except UnicodeDecodeError:
        made["body_base64"] = b64(body)
    made |= {"now": now, "valid": valid, "kind": kind, "source": SOURCE}
    made |= {key: value for key, value in more.items() if value is not None}
    if reason:
        made["reason"] = reason
    vectors.append(made)


def all_of(name, secret, request_at, tampered_at, window=None, has_time=False, **more):
    """request_at(t) is a request signed at t; tampered_at(t) the same with something changed that is signed."""
    expected = {key: more.pop(key, None) for key in ("event_id", "event_type", "events")}
    if callable(expected["event_id"]):
        expected["event_id"] = expected["event_id"](request_at(NOW))
    good = request_at(NOW)
    vector(name, "good", secret, good, NOW, True, **expected, **more)
    vector(name, "tampered", secret, tampered_at(NOW), NOW, False, "tampered", **more)
    if window:
        vector(name, "edge", secret, good, NOW + window, True, **more)
        vector(name, "stale", secret, good, NOW + window + 1, False, "stale", **more)
        vector(name, "ahead", secret, good, NOW - window - 1, False, "ahead", **more)
    elif has_time:
        vector(name, "old", secret, good, NOW + 31_536_000, True, note="no window: a year old is good", **more)


def body_hash(request):
    return "sha256:" + hashlib.sha256(request["body"]).hexdigest()


def provider(name, secret, sign, *, id=None, kind=None, each=None, window=None, has_time=False, url=None, head=None,
             body=None, at="", **more):
    """sign(secret, body, t, headers) -> the headers that carry time and signature.

    `id` and `kind` say where the event's id and type are: `header:X`, a dotted path of the body, or None. `each` is
    the path of a list of events ("" for a body that is the list), within which the paths count.
    """
    def request(t, change=False):
        headers = {"Content-Type": "application/json"} | (head or {})
        places = {}
        for place, value in ((id, "evt_01J8Z3K6W2"), (kind, "thing.happened")):
            if place and place.startswith("header:"):
                headers[place.removeprefix("header:")] = value
            elif place:
                places[place] = value
        document = placed(places | {key: value(t) for key, value in (body or {}).items()})
        if each is not None:
            second = json.loads(json.dumps(document).replace("evt_01J8Z3K6W2", "evt_02").replace("happened", "ended"))
            document = [document, second]
            if each:
                document = placed({each: document})
        text = written(document)
        headers |= sign(secret, text, t, headers)
        if change:
            text = text.replace(b"kept", b"kepT", 1)
        return {"headers": headers, "body": text, "url": url}

    if each is None:
        expected = {"event_id": "evt_01J8Z3K6W2" if id else body_hash, "event_type": "thing.happened" if kind else ""}
    else:
        expected = {"events": [["evt_01J8Z3K6W2" if id else None, "thing.happened"],
                               ["evt_02" if id else None, "thing.ended"]]}
    all_of(name, secret, request, lambda t: request(t, True), window, has_time, **expected, **more)


# === the Standard Webhooks family ===

WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def standard(name, prefix="webhook", secret=WHSEC, key=None, kind="type", names=None):
    id_name, at_name, signature_name = names or (f"{prefix}-id", f"{prefix}-timestamp", f"{prefix}-signature")

    def sign(s, b, t, h):
        key_bytes = key(s) if key else unb64(s.removeprefix("whsec_"))
        return {at_name: str(t), signature_name: "v1," + b64_(key_bytes, h[id_name], ".", t, ".", b)}

    provider(name, secret, sign, id="header:" + id_name, kind=kind, window=300)


for name in ("standard-webhooks", "openai", "liveblocks", "render", "etsy", "loops", "increase", "gemini", "incident-io"):
    standard(name)
for name in ("svix", "clerk", "resend", "stytch", "vanta"):
    standard(name, "svix")
standard("anthropic", kind="data.type")
standard("replicate", kind="status")
standard("gitlab", kind="header:X-Gitlab-Event")
standard("polar", secret="polar_whs_c2VjcmV0", key=lambda s: s.encode())
standard("brex", secret="MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
standard("supabase", secret="v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", key=lambda s: unb64(s[9:]))
standard("finch", secret="MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", kind="event_type",
         names=("Finch-Event-Id", "Finch-Timestamp", "Finch-Signature"))

# === a time and the body ===


def fields(header, key="v1", time="t", alg="sha256", unit=1, between=".", made=hex_):
    def sign(s, b, t, h):
        t = t * unit
        signature = made(s, t, between, b) if alg == "sha256" else made(s, t, between, b, alg=alg)
        separator = ";" if between == ":" else ","
        return {header: f"{time}={t}{separator}{key}={signature}"}

    return sign


provider("sendpilot", "sp_live_4f9c1b7e0a6d4c2f", fields("Webhook-Signature", "s"), id="eventId", kind="eventType", window=300)
provider("stripe", WHSEC, fields("Stripe-Signature"), id="id", kind="type", window=300)
provider("calendly", "calendly_key", fields("Calendly-Webhook-Signature"), kind="event", window=300)
provider("paddle", "pdl_ntfset_01", fields("Paddle-Signature", "h1", "ts", between=":"), id="event_id", kind="event_type", window=5)
provider("mux", "mux_secret", fields("Mux-Signature"), id="id", kind="type", window=300)
provider("workos", "workos_secret", fields("WorkOS-Signature", unit=1000), id="id", kind="event", window=180)
provider("elevenlabs", "wsec_eleven", fields("ElevenLabs-Signature", "v0"), kind="type", window=1800)
provider("sanity", "sanity_secret", fields("sanity-webhook-signature", unit=1000, made=b64url_), id="header:idempotency-key", has_time=True)
provider("persona", "wbhsec_persona", fields("Persona-Signature"), id="data.id", kind="data.attributes.name", window=300)
provider("buildkite", "buildkite_token", fields("X-Buildkite-Signature", "signature", "timestamp"), kind="header:X-Buildkite-Event", window=300)
provider("knock", "knock_key", fields("X-Knock-Signature", "s", unit=1000, made=b64_), window=300)
provider("tiktok", "tiktok_client_secret", fields("TikTok-Signature", "s"), kind="event", window=300)
provider("shippo", "shippo_secret", fields("Shippo-Auth-Signature"), kind="event", window=300)
provider("affirm", "affirm_private_key", fields("X-Affirm-Signature", "v0", alg="sha512"), window=300)
provider("recurly", "recurly_key", lambda s, b, t, h: {"recurly-signature": f"{t},{'0' * 64},{hex_(s, t, '.', b)}"},
         id="uuid", kind="event_type", window=300)
provider("slack", "8f742231b10e8888abcd99yyyzzz85a5",
         lambda s, b, t, h: {"X-Slack-Request-Timestamp": str(t), "X-Slack-Signature": "v0=" + hex_(s, "v0:", t, ":", b)},
         id="event_id", kind="event.type", window=300)
provider("zoom", "zoomSecretToken123",
         lambda s, b, t, h: {"x-zm-request-timestamp": str(t), "x-zm-signature": "v0=" + hex_(s, "v0:", t, ":", b)},
         kind="event", window=300)
provider("customer-io", "cio_key",
         lambda s, b, t, h: {"X-CIO-Timestamp": str(t), "X-CIO-Signature": hex_(s, "v0:", t, ":", b)},
         id="event_id", kind="metric", window=300)
provider("webflow", "webflow_secret",
         lambda s, b, t, h: {"x-webflow-timestamp": f"{t}000", "x-webflow-signature": hex_(s, f"{t}000:", b)},
         kind="triggerType", window=300)


def twitch(s, b, t, h):
    time = rfc3339(t, ".000000000")
    return {"Twitch-Eventsub-Message-Timestamp": time,
            "Twitch-Eventsub-Message-Signature": "sha256=" + hex_(s, h["Twitch-Eventsub-Message-Id"], time, b)}


provider("twitch", "twitch_secret_s3cr3t", twitch, id="header:Twitch-Eventsub-Message-Id",
         kind="header:Twitch-Eventsub-Subscription-Type", window=600)
provider("zendesk", "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ==",
         lambda s, b, t, h: {"X-Zendesk-Webhook-Signature-Timestamp": rfc3339(t),
                             "X-Zendesk-Webhook-Signature": b64_(s, rfc3339(t), b)},
         id="header:X-Zendesk-Webhook-Invocation-Id", kind="type", window=300)


def box(s, b, t, h):
    time = rfc3339(t).replace("Z", "+00:00")
    return {"BOX-DELIVERY-TIMESTAMP": time, "BOX-SIGNATURE-VERSION": "1", "BOX-SIGNATURE-ALGORITHM": "HmacSHA256",
            "BOX-SIGNATURE-PRIMARY": b64_("another key", b, time), "BOX-SIGNATURE-SECONDARY": b64_(s, b, time)}


provider("box", "SampleSecondaryKey", box, id="header:BOX-DELIVERY-ID", kind="trigger", window=600)
provider("linear", "lin_wh_secret", lambda s, b, t, h: {"Linear-Signature": hex_(s, b)}, id="header:Linear-Delivery",
         kind="header:Linear-Event", body={"webhookTimestamp": lambda t: t * 1000}, window=60)
provider("emailit", "whsec_0a1b2c3d",
         lambda s, b, t, h: {"X-Emailit-Timestamp": str(t), "X-Emailit-Signature": hex_(s, t, ".", b)}, window=300)
provider("airship", "airship_key",
         lambda s, b, t, h: {"X-UA-Timestamp": str(t), "X-UA-Signature": hex_(s, t, ":", b)}, window=300)
provider("klaviyo", "klaviyo_secret_of_16",
         lambda s, b, t, h: {"Klaviyo-Timestamp": http_date(t), "Klaviyo-Signature": hex_(s, b, http_date(t))}, window=300)
provider("front", "front_secret",
         lambda s, b, t, h: {"X-Front-Request-Timestamp": f"{t}000", "X-Front-Signature": b64_(s, f"{t}000:", b)}, window=300)
provider("sinch", "sinch_secret",
         lambda s, b, t, h: {"X-Sinch-Webhook-Signature-Nonce": "01FJA8B4A7BM43YGWSG9GBV067",
                             "X-Sinch-Webhook-Signature-Timestamp": str(t),
                             "X-Sinch-Webhook-Signature": b64_(s, b, ".01FJA8B4A7BM43YGWSG9GBV067.", t)}, window=300)
provider("lob", "lob_secret",
         lambda s, b, t, h: {"Lob-Signature-Timestamp": f"{t}000", "Lob-Signature": hex_(s, f"{t}000.", b)}, has_time=True)
provider("airwallex", "airwallex_secret",
         lambda s, b, t, h: {"X-Timestamp": f"{t}000", "X-Signature": hex_(s, f"{t}000", b)}, has_time=True)
provider("configcat", "configcat_key",
         lambda s, b, t, h: {"X-ConfigCat-Webhook-Timestamp": str(t), "X-ConfigCat-Webhook-Signature-V1":
                             b64(bytes(32)) + "," + b64_(s, h["X-ConfigCat-Webhook-ID"], t, b)},
         id="header:X-ConfigCat-Webhook-ID", has_time=True)

# === the body alone ===


def whole(header, prefix="", made=hex_, alg="sha256", before="", after=None, key=as_bytes):
    def sign(s, b, t, h):
        tail = h[after] if after else ""
        more = {} if alg == "sha256" else {"alg": alg}
        return {header: prefix + made(key(s), before, b, tail, **more)}

    return sign


for name, header, id, kind in (
    ("gitea", "X-Gitea-Signature", "header:X-Gitea-Delivery", "header:X-Gitea-Event"),
    ("forgejo", "X-Forgejo-Signature", "header:X-Forgejo-Delivery", "header:X-Forgejo-Event"),
    ("sentry", "Sentry-Hook-Signature", "header:Request-ID", "header:Sentry-Hook-Resource"),
    ("dropbox", "X-Dropbox-Signature", None, None),
    ("razorpay", "X-Razorpay-Signature", "header:X-Razorpay-Event-Id", "event"),
    ("coinbase-commerce", "X-CC-Webhook-Signature", "event.id", "event.type"),
    ("lemon-squeezy", "X-Signature", None, "header:X-Event-Name"),
    ("cal-com", "X-Cal-Signature-256", None, "triggerEvent"),
    ("checkout", "Cko-Signature", "id", "type"),
    ("dwolla", "X-Request-Signature-SHA-256", "id", "topic"),
    ("clickup", "X-Signature", None, "event"),
    ("pusher", "X-Pusher-Signature", None, None),
    ("launchdarkly", "X-LD-Signature", None, None),
    ("checkr", "X-Checkr-Signature", "id", "type"),
    ("chargify", "X-Chargify-Webhook-Signature-Hmac-Sha-256", None, None),
    ("modern-treasury", "X-Signature", None, None),
    ("nylas", "X-Nylas-Signature", "id", "type"),
    ("dub", "Dub-Signature", None, None),
    ("sendbird", "X-Sendbird-Signature", None, None),
):
    provider(name, f"{name} secret", whole(header), id=id, kind=kind)
for name, header, id, kind in (
    ("github", "X-Hub-Signature-256", "header:X-GitHub-Delivery", "header:X-GitHub-Event"),
    ("bitbucket", "X-Hub-Signature", "header:X-Request-UUID", "header:X-Event-Key"),
    ("jira", "X-Hub-Signature", "header:X-Atlassian-Webhook-Identifier", "webhookEvent"),
    ("notion", "X-Notion-Signature", "id", "type"),
    ("meta", "X-Hub-Signature-256", None, "object"),
    ("doppler", "X-Doppler-Signature", None, None),
    ("ashby", "Ashby-Signature", None, None),
    ("npm", "x-npm-signature", None, None),
    ("cursor", "X-Webhook-Signature", "header:X-Webhook-ID", "header:X-Webhook-Event"),
):
    provider(name, f"{name} secret", whole(header, "sha256="), id=id, kind=kind)
for name, header, id, kind in (
    ("woocommerce", "X-WC-Webhook-Signature", "header:X-WC-Webhook-Delivery-ID", "header:X-WC-Webhook-Topic"),
    ("heroku", "Heroku-Webhook-Hmac-SHA256", "id", None),
    ("quickbooks", "intuit-signature", None, None),
    ("aftership", "aftership-hmac-sha256", None, None),
    ("bolt", "X-Bolt-Hmac-Sha256", None, None),
    ("primer", "X-Signature-Primary", None, None),
    ("tally", "Tally-Signature", "eventId", "eventType"),
    ("ably", "X-Ably-Signature", None, None),
    ("shopify", "X-Shopify-Hmac-Sha256", "header:X-Shopify-Event-Id", "header:X-Shopify-Topic"),
    ("docusign", "X-DocuSign-Signature-7", None, "event"),
    ("hookdeck", "X-Hookdeck-Signature-2", "header:x-hookdeck-eventid", None),
):
    provider(name, f"{name} secret", whole(header, made=b64_), id=id, kind=kind)
provider("cronofy", "cronofy secret",
         lambda s, b, t, h: {"Cronofy-HMAC-SHA256": b64(bytes(32)) + "," + b64_(s, b)}, kind="notification.type")
provider("github-sha1", "github secret", whole("X-Hub-Signature", "sha1=", alg="sha1"), id="header:X-GitHub-Delivery", kind="header:X-GitHub-Event")
provider("intercom", "intercom secret", whole("X-Hub-Signature", "sha1=", alg="sha1"), id="id", kind="topic")
provider("vercel", "vercel secret", whole("x-vercel-signature", alg="sha1"), id="id", kind="type")
provider("segment", "segment secret", whole("X-Signature", alg="sha1"))
provider("autodesk", "autodesk secret", whole("x-adsk-signature", "sha1hash=", alg="sha1"))
provider("mongodb-atlas", "atlas secret", whole("X-MMS-Signature", made=b64_, alg="sha1"))
provider("paystack", "sk_test_paystack", whole("x-paystack-signature", alg="sha512"), kind="event")
provider("authorize-net", "44782DEF547AAA06C910C43932B1EB0C",
         lambda s, b, t, h: {"X-ANET-Signature": "sha512=" + hex_(bytes.fromhex(s), b, alg="sha512").upper()},
         id="notificationId", kind="eventType")
provider("adyen-platform", "44782DEF547AAA06C910C43932B1EB0C", whole("HmacSignature", made=b64_, key=bytes.fromhex), kind="type")
provider("onfleet", "44782def547aaa06c910c43932b1eb0c", whole("X-Onfleet-Signature", alg="sha512", key=bytes.fromhex))
provider("squarespace", "44782def547aaa06c910c43932b1eb0c", whole("Squarespace-Signature", key=bytes.fromhex))
provider("airtable", "YWlydGFibGUtbWFjLXNlY3JldA==", whole("X-Airtable-Content-MAC", "hmac-sha256=", key=unb64))
provider("microsoft-teams", "dGVhbXMtc2VjdXJpdHktdG9rZW4=", whole("Authorization", "HMAC ", made=b64_, key=unb64), id="id", kind="type")
provider("merge", "merge secret", lambda s, b, t, h: {"X-Merge-Webhook-Signature": base64.urlsafe_b64encode(mac(s, b)).decode()})
provider("typeform", "typeform secret", whole("Typeform-Signature", "sha256=", made=b64_), id="event_id", kind="event_type")
provider("x", "x consumer secret", whole("x-twitter-webhooks-signature", "sha256=", made=b64_))
provider("pagerduty", "pagerduty secret",
         lambda s, b, t, h: {"X-PagerDuty-Signature": f"v1={'0' * 64},v1={hex_(s, b)}"}, id="event.id", kind="event.event_type")
provider("circleci", "circleci secret",
         lambda s, b, t, h: {"circleci-signature": f"v1={hex_(s, b)},v2={'0' * 64}"}, id="id", kind="header:circleci-event-type")
provider("framer", "framer secret", whole("Framer-Signature", "sha256=", after="Framer-Webhook-Submission-Id"),
         id="header:Framer-Webhook-Submission-Id")
provider("linkedin", "linkedin client secret", whole("X-LI-Signature", before="hmacsha256="))
provider("deel", "deel secret", whole("x-deel-signature", before="POST"))
provider("asana", "b537207f20cbfa02357cf448134da559", whole("X-Hook-Signature"), kind="action", each="events")
provider("xero", "xero signing key", whole("x-xero-signature", made=b64_), kind="eventType", each="events")
provider("line", "line channel secret", whole("x-line-signature", made=b64_), id="webhookEventId", kind="type", each="events")
provider("gocardless", "gocardless secret", whole("Webhook-Signature"), id="id", kind="resource_type", each="events")

# === the registered URL, too ===

provider("square", "square signature key", lambda s, b, t, h: {"x-square-hmacsha256-signature": b64_(s, URL, b)},
         id="event_id", kind="type", url=URL)
provider("trello", "trello app secret", lambda s, b, t, h: {"X-Trello-Webhook": b64_(s, b, URL, alg="sha1")},
         id="action.id", kind="action.type", url=URL)
provider("hubspot", "hubspot client secret",
         lambda s, b, t, h: {"X-HubSpot-Request-Timestamp": f"{t}000",
                             "X-HubSpot-Signature-v3": b64_(s, "POST", URL.replace("%2F", "/"), b, f"{t}000")},
         id="eventId", kind="subscriptionType", each="", url=URL, window=300)
provider("hubspot-v2", "hubspot client secret",
         lambda s, b, t, h: {"X-HubSpot-Signature": hashlib.sha256(joined([s, "POST", URL, b])).hexdigest()}, url=URL)
provider("hubspot-v1", "hubspot client secret",
         lambda s, b, t, h: {"X-HubSpot-Signature": hashlib.sha256(joined([s, b])).hexdigest()},
         id="eventId", kind="subscriptionType", each="")


def mandrill(t, change=False):
    pairs = [("mandrill_events", '[{"event":"send","note":"caf\u00e9"}]'), ("a", "1 & 2")]
    text = URL + "".join(name + value for name, value in sorted(pairs))
    body = urllib.parse.urlencode(pairs[:1] + [("a", "1 & 3")] if change else pairs).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Mandrill-Signature": b64_("mandrill key", text, alg="sha1")}
    return {"headers": headers, "body": body, "url": URL}


all_of("mandrill", "mandrill key", mandrill, lambda t: mandrill(t, True), event_id=body_hash, event_type="")

# === the signature in the body, or a plain hash ===


def mailgun(t, change=False):
    token = "e0b5477167110d68991efc6b9f89f0a11066af27834600e123"
    signature = hex_("mailgun signing key", t, token)
    token = token[:-1] + "4" if change else token
    body = {"signature": {"token": token, "timestamp": str(t), "signature": signature}}
    body["event-data"] = {"id": "evt_01J8Z3K6W2", "event": "thing.happened"}
    return {"headers": {"Content-Type": "application/json"}, "body": written(body)}


all_of("mailgun", "mailgun signing key", mailgun, lambda t: mailgun(t, True), event_id="evt_01J8Z3K6W2", event_type="thing.happened")


def braintree(t, change=False):
    payload = b64(b"<notification><kind>check</kind></notification>") + "\n"
    signature = hex_(hashlib.sha1(b"braintree private key").digest(), payload, alg="sha1")
    payload = payload.replace("P", "Q", 1) if change else payload
    pairs = {"bt_signature": f"other|{'0' * 40}&ours|{signature}", "bt_payload": payload}
    return {"headers": {"Content-Type": "application/x-www-form-urlencoded"}, "body": urllib.parse.urlencode(pairs).encode()}


all_of("braintree", "braintree private key", braintree, lambda t: braintree(t, True), event_type="")
provider("cloudinary", "cloudinary api secret",
         lambda s, b, t, h: {"X-Cld-Timestamp": str(t), "X-Cld-Signature": hashlib.sha1(joined([b, t, s])).hexdigest()},
         kind="notification_type", window=7200)

# === public keys, from seeds ===

ED = ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"longshore ed25519").digest())
ED_PUBLIC = ED.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
EC = ec.derive_private_key(int.from_bytes(hashlib.sha256(b"longshore p-256").digest(), "big") >> 1, ec.SECP256R1())


def is_prime(n, dice):
    if any(n % p == 0 for p in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)):
        return False
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(24):
        x = pow(dice.randrange(2, n - 1), odd, n)
        if x in (1, n - 1):
            continue
        for _ in range(twos - 1):
            x = pow(x, 2, n)
            if x == n - 1:
                break
        else:
            return False
    return True


def rsa_key(seed):
    """A key for tests: the numbers come from a seed that anybody can read."""
    dice = random.Random(seed)

    def prime():
        while True:
            n = dice.getrandbits(1024) | (3 << 1022) | 1
            if (n - 1) % 65537 and is_prime(n, dice):
                return n

    p, q = prime(), prime()
    d = pow(65537, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(65537, p * q)
    return rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public).private_key()


RSA = rsa_key("longshore rsa")
RSA_PKCS8 = RSA.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def pem(public):
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def rsa_b64(*parts):
    return b64(RSA.sign(joined(parts), padding.PKCS1v15(), hashes.SHA256()))


def ec_b64(*parts):
    return b64(EC.sign(joined(parts), ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))


def certificate():
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "messageverification.example.com")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(RSA.public_key()).serial_number(7)
    made = made.not_valid_before(datetime.datetime(2020, 1, 1)).not_valid_after(datetime.datetime(2050, 1, 1))
    return made.sign(RSA, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def standard_v1a(s, b, t, h):
    signature = b64(ED.sign(joined([h["webhook-id"], ".", t, ".", b])))
    return {"webhook-timestamp": str(t), "webhook-signature": f"v1,{b64(bytes(32))} v1a,{signature}"}


provider("standard-webhooks-ed25519", "whpk_" + b64(ED_PUBLIC), standard_v1a, id="header:webhook-id", kind="type", window=300)
provider("discord", ED_PUBLIC.hex(),
         lambda s, b, t, h: {"X-Signature-Timestamp": str(t), "X-Signature-Ed25519": ED.sign(joined([t, b])).hex()},
         id="id", kind="event.type", has_time=True)
provider("telnyx", b64(ED_PUBLIC),
         lambda s, b, t, h: {"telnyx-timestamp": str(t), "telnyx-signature-ed25519": b64(ED.sign(joined([t, "|", b])))},
         id="data.id", kind="data.event_type", window=300)
EC_DER = EC.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
provider("sendgrid", b64(EC_DER),
         lambda s, b, t, h: {"X-Twilio-Email-Event-Webhook-Timestamp": str(t),
                             "X-Twilio-Email-Event-Webhook-Signature": ec_b64(t, b)},
         id="sg_event_id", kind="event", each="", has_time=True)
provider("wise", pem(RSA.public_key()), lambda s, b, t, h: {"X-Signature-SHA256": rsa_b64(b)},
         id="header:X-Delivery-Id", kind="event_type")


def paypal(s, b, t, h):
    signed = f"69cd13f0-d67a-11e5-baa3-778b53f4ae55|{rfc3339(t)}|8PT597110X687430LKGECATA|{zlib.crc32(b)}"
    return {"PAYPAL-TRANSMISSION-ID": "69cd13f0-d67a-11e5-baa3-778b53f4ae55", "PAYPAL-TRANSMISSION-TIME": rfc3339(t),
            "PAYPAL-AUTH-ALGO": "SHA256withRSA", "PAYPAL-CERT-URL": "https://api.paypal.com/v1/notifications/certs/CERT-1",
            "PAYPAL-TRANSMISSION-SIG": rsa_b64(signed)}


provider("paypal", certificate(), paypal, id="id", kind="event_type", window=300,
         context={"webhook_id": "8PT597110X687430LKGECATA"})

# === the secret itself ===


def token(name, header, **more):
    provider(name, "A-Za-z0-9_token", lambda s, b, t, h: {header: s}, **more)
    # Nothing of the body is signed: what is changed is the token.
    vectors[-1]["body"] = vectors[-2]["body"]
    vectors[-1]["headers"] = vectors[-2]["headers"] | {header: "A-Za-z0-9_tokeN"}


def basic(name, **more):
    provider(name, "user:pa:ss", lambda s, b, t, h: {"Authorization": "Basic " + b64(s.encode())}, **more)
    vectors[-1]["body"] = vectors[-2]["body"]
    vectors[-1]["headers"] = vectors[-2]["headers"] | {"Authorization": "Basic " + b64(b"user:pa:sS")}


token("gitlab-token", "X-Gitlab-Token", id="header:X-Gitlab-Event-UUID", kind="header:X-Gitlab-Event")
token("telegram", "X-Telegram-Bot-Api-Secret-Token", id="update_id")
token("deepgram", "dg-token")
token("okta", "Authorization", id="uuid", kind="eventType", each="data.events")
basic("postmark", id="MessageID", kind="RecordType")
basic("chargebee", id="id", kind="event_type")
basic("sparkpost")


def graph(t, change=False):
    state = "A-Za-z0-9_tokeN" if change else "A-Za-z0-9_token"
    events = [{"id": f"evt_{n}", "changeType": kind, "clientState": state} for n, kind in ((1, "created"), (2, "deleted"))]
    return {"headers": {"Content-Type": "application/json"}, "body": written({"value": events})}


all_of("microsoft-graph", "A-Za-z0-9_token", graph, lambda t: graph(t, True), events=[["evt_1", "created"], ["evt_2", "deleted"]])

# === what is code, not data ===


def twilio(t, change=False):
    pairs = [("MessageStatus", "delivered"), ("MessageSid", "SM1"), ("To", "+15558675310"), ("To", "+15558675310")]
    text = URL + "".join(name + value for name, value in sorted(set(pairs)))
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": b64_("12345", text, alg="sha1")}
    body = urllib.parse.urlencode([("MessageStatus", "failed")] + pairs[1:] if change else pairs).encode()
    return {"headers": headers, "body": body, "url": URL}


all_of("twilio", "12345", twilio, lambda t: twilio(t, True), event_id="SM1:delivered", event_type="delivered")


def adyen(t, change=False):
    key = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
    items = []
    for n in (1, 2):
        item = {"pspReference": f"psp{n}", "originalReference": "", "merchantAccountCode": "Shop", "merchantReference": f"order {n}",
                "amount": {"value": 1130, "currency": "EUR"}, "eventCode": "AUTHORISATION", "success": "true"}
        signed = f"psp{n}::Shop:order {n}:1130:EUR:AUTHORISATION:true"
        item["additionalData"] = {"hmacSignature": b64_(bytes.fromhex(key), signed)}
        items.append({"NotificationRequestItem": item})
    if change:
        items[1]["NotificationRequestItem"]["amount"]["value"] = 1131
    return {"headers": {"Content-Type": "application/json"}, "body": written({"live": "false", "notificationItems": items})}


all_of("adyen", "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056", adyen, lambda t: adyen(t, True))


def jwt(header, claims, sign):
    parts = [base64.urlsafe_b64encode(written(part)).decode().rstrip("=") for part in (header, claims)]
    return ".".join([*parts, base64.urlsafe_b64encode(sign(".".join(parts))).decode().rstrip("=")])


def messagebird(s, b, t, h):
    claims = {"iss": "MessageBird", "nbf": t - 30, "exp": t + 30, "jti": "93e55006-a0e8-4526-a190-fa5ff00ea116",
              "url_hash": hashlib.sha256(URL.encode()).hexdigest(), "payload_hash": hashlib.sha256(b).hexdigest()}
    return {"MessageBird-Signature-JWT": jwt({"alg": "HS256", "typ": "JWT"}, claims, lambda text: mac(s, text))}


provider("messagebird", "messagebird signing key", messagebird, url=URL)
vectors[-2].pop("event_id")  # The token's own id may name the event.
good = vectors[-2]
vectors.append(good | {"id": "made-messagebird-stale", "now": NOW + 3600, "valid": False, "kind": "derived", "reason": "stale"})
vectors[-1].pop("event_type", None)


def main():
    lines = ",\n".join(json.dumps(made, ensure_ascii=True) for made in vectors)
    # The tests sign with the RSA key too, and have nothing that could make one from a seed.
    files = {"made.json": f"[\n{lines}\n]\n", "rsa-key-of-the-tests.txt": b64(RSA_PKCS8) + "\n"}
    for name, text in files.items():
        path = pathlib.Path(__file__).with_name(name)
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
        elif path.read_text() != text:
            sys.exit(f"{name} is not what make.py makes; run python3 tests/vectors/make.py")
    print(f"{len(vectors)} vectors of {len({made['provider'] for made in vectors})} presets")


main()
