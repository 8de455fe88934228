// A PlatformEvent in Avro, after a registry's header; its id, its key, its CloudEvents headers.
import { createBLAKE2b } from 'hash-wasm'

// Places in the schema's enumeration of kinds.
export const CREATED = 0, UPDATED = 1, DELETED = 2, OTHER = 11

// What the source says of the time, where that can be: else the time of receipt, not certain.
export function sourceTime(sourceMs, receivedMs) {
  return sourceMs > 0 && sourceMs <= receivedMs + 300_000 ? [sourceMs, true] : [receivedMs, false]
}

export async function encoderOf(schemaId, connection, platform) {
  const blake = await createBLAKE2b(128)
  const prefixed = (text) => `${Buffer.byteLength(text)}:${text}`
  const idHead = prefixed('event') + prefixed(connection)
  const typeHead = `syncline.${platform}.`
  const source = `/connections/${connection}`

  // Hashes connection, identity and content, each after its length.
  const idOf = ({ identity, content }) =>
    blake
      .init()
      .update(idHead + (identity ? prefixed(identity) : '') + prefixed(content))
      .digest('hex')

  // One buffer for all: a message is written to it and copied out.
  let out = Buffer.allocUnsafe(1 << 20)
  let at = 0

  // Zigzag, then seven bits a byte, the lowest first. Numbers up to 2^52: division, not shifts.
  function long(number) {
    let rest = number >= 0 ? number * 2 : -number * 2 - 1
    while (rest > 127) {
      out[at++] = (rest % 128) | 128
      rest = Math.floor(rest / 128)
    }
    out[at++] = rest
  }
  function text(value) {
    const length = Buffer.byteLength(value)
    long(length)
    at += out.write(value, at)
  }
  function bytes(value) {
    long(value.length)
    at += value.copy(out, at)
  }

  function value(event, id, receivedMs, trace) {
    const size = event.payload.length + event.values.length * 3 + 4096
    if (size > out.length) out = Buffer.allocUnsafe(size)
    at = out.writeUInt32BE(schemaId, out.writeUInt8(0, 0))
    text(id)
    text(connection)
    text(platform)
    text(event.objectType)
    text(event.objectId)
    long(event.kind)
    long(0) // origin: webhook
    long(0) // no run
    long(-1) // no record number
    long(event.occurredMs)
    out[at++] = event.certain ? 1 : 0
    long(receivedMs)
    text(event.platformKind)
    if (event.changed) {
      long(1)
      text(event.changed)
    }
    out[at++] = 0
    out[at++] = 1 // thin
    out[at++] = 0 // nothing related
    text(trace)
    text(event.values)
    bytes(event.payload)
    return Buffer.from(out.subarray(0, at))
  }

  return {
    message(event, receivedMs, trace) {
      const id = idOf(event)
      return {
        key: `${connection}:${event.objectType}:${event.objectId}`,
        value: value(event, id, receivedMs, trace),
        headers: {
          ce_specversion: '1.0',
          ce_id: id,
          ce_type: typeHead + event.platformKind,
          ce_source: source,
          ce_time: new Date(event.occurredMs).toISOString(),
          traceparent: trace,
        },
      }
    },
  }
}
