// HubSpot's webhooks, signed with v3.
import { createHmac, timingSafeEqual } from 'node:crypto'
import { CREATED, DELETED, OTHER, UPDATED, sourceTime } from './event.js'

const KINDS = {
  creation: CREATED,
  restore: CREATED,
  propertyChange: UPDATED,
  deletion: DELETED,
  privacyDeletion: DELETED,
}
// What v3 decodes in an address before signing, and no more.
const DECODABLE = /%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)/gi

export function hubspot(secret, account) {
  function isGenuine(request, publicUrl, receivedMs) {
    const stamp = request.headers['x-hubspot-request-timestamp']
    const given = request.headers['x-hubspot-signature-v3']
    if (!stamp || !given || !(Math.abs(receivedMs - Number(stamp)) <= 300_000)) return false
    const url = (publicUrl + request.url).replace(DECODABLE, decodeURIComponent)
    const expected = createHmac('sha256', secret)
      .update(request.method + url)
      .update(request.body)
      .update(stamp)
      .digest('base64')
    return given.length === expected.length && timingSafeEqual(Buffer.from(given), Buffer.from(expected))
  }

  return {
    kept: [
      'content-type', 'user-agent', 'x-hubspot-signature', 'x-hubspot-signature-version',
      'x-hubspot-signature-v3', 'x-hubspot-request-timestamp',
    ],
    answer: ['', ''],
    // The body and its events; undefined: not genuine. Throws for what is not in the benchmark.
    read(request, publicUrl, receivedMs) {
      if (!isGenuine(request, publicUrl, receivedMs)) return undefined
      const body = request.body
      const elements = JSON.parse(body)
      const slices = split(body)
      if (slices.length !== elements.length || elements.length > 1000) throw new Error('no array')
      const events = elements.map((fields, n) => event(fields, slices[n], receivedMs, account))
      return { body, events }
    },
  }
}

const QUOTE = 34, ESCAPE = 92, OPEN = 123, CLOSE = 125

// Each object of the array, byte for byte.
function split(body) {
  const found = []
  let depth = 0, start = 0, quoted = false
  for (let at = 0; at < body.length; at++) {
    const byte = body[at]
    if (quoted) {
      if (byte === ESCAPE) at++
      else if (byte === QUOTE) quoted = false
    } else if (byte === QUOTE) quoted = true
    else if (byte === OPEN) {
      if (depth++ === 0) start = at
    } else if (byte === CLOSE && --depth === 0) found.push(body.subarray(start, at + 1))
  }
  return found
}

function event(fields, payload, receivedMs, account) {
  if (String(fields.portalId) !== account) throw new Error('of a portal that is no connection here')
  const platformKind = fields.subscriptionType
  const [objectType, verb] = platformKind.split('.')
  if (!(verb in KINDS)) throw new Error('not in the benchmark')
  const changed = verb === 'propertyChange' ? fields.propertyName : ''
  const values = changed ? JSON.stringify({ [changed]: fields.propertyValue }) : '{}'
  const [occurredMs, certain] = sourceTime(Number(fields.occurredAt), receivedMs)
  delete fields.attemptNumber // all that a repeat differs in
  const sorted = {}
  for (const name of Object.keys(fields).sort()) sorted[name] = fields[name]
  return {
    identity: '',
    content: JSON.stringify(sorted),
    objectType,
    objectId: String(fields.objectId),
    kind: KINDS[verb] ?? OTHER,
    platformKind,
    occurredMs,
    certain,
    changed,
    values,
    payload,
  }
}
