// Writes segment.json: events signed by Segment's own code, for tests/unit/test_official_signers.py.
//
//   npm install --ignore-scripts @segment/actions-core liquidjs
//   npm pack @segment/action-destinations   # unpacked below node_modules; its other needs are not ours
//   node segment.js > segment.json
const { default: webhook } = require("@segment/action-destinations/dist/destinations/webhook");
const { version } = require("@segment/action-destinations/package.json");

const secret = "shared secret of the destination";
const event = (number, more) => ({
  type: "track", messageId: `ajs-${number}`, userId: `user-${number}`, event: "Bought",
  properties: { revenue: 13.5 }, timestamp: "2025-11-24T15:59:00.123Z", ...more,
});
const requests = {
  plain: [event(1)],
  unicode: [event(2, { event: "Größe ∞ \u2028 😀 </b> \\/ \u0007", properties: { é: 1e21, z: -0 } })],
  nested: [event(3, { context: { a: [1, [2, { b: null }]], "": true } })],
  batch: [event(4), event(5), event(6)],
  "batch of one": [event(7)],
};

const signed = Object.entries(requests).map(([name, events]) => {
  const batch = name.startsWith("batch");
  const payload = batch ? events.map((data) => ({ data })) : { data: events[0] };
  const { headers } = webhook.extendRequest({ settings: { sharedSecret: secret }, payload });
  // perform and performBatch hand the same objects to the HTTP client, which stringifies them.
  const body = JSON.stringify(batch ? events : events[0]);
  return { name, body, signature: headers["X-Signature"], events: events.length };
});
console.log(JSON.stringify({ package: `@segment/action-destinations ${version}`, secret, signed }, null, 1));
