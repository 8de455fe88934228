// Salesforce's outbound messages: SOAP, with a secret in the address.
import { timingSafeEqual } from 'node:crypto'
import { SaxesParser } from 'saxes'
import { CREATED, DELETED, UPDATED, sourceTime } from './event.js'

const ACK =
  '<?xml version="1.0" encoding="UTF-8"?>' +
  '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>' +
  '<notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack>' +
  '</notificationsResponse></soapenv:Body></soapenv:Envelope>'

const isSame = (given, expected) =>
  given.length === expected.length && timingSafeEqual(Buffer.from(given), Buffer.from(expected))

export function salesforce(secret, organization) {
  return {
    kept: ['content-type', 'soapaction', 'user-agent'],
    answer: [ACK, 'text/xml; charset=utf-8'],
    // The body and its events; undefined: not genuine. Throws for what is not in the benchmark.
    read(request, _, receivedMs) {
      if (!isSame(request.params.rest ?? '', secret)) return undefined
      const body = withoutSession(request.body)
      const envelope = notifications(body.toString())
      if (!isSame(envelope.organization, organization)) return undefined
      return { body, events: envelope.found.map((n) => event(n, receivedMs)) }
    },
  }
}

// A live login is cut out of the body.
function withoutSession(body) {
  const opening = body.indexOf('<SessionId>')
  if (opening < 0) return body
  const start = opening + '<SessionId>'.length
  const end = body.indexOf('</SessionId>', start)
  return end < 0 ? body.subarray(0, start) : Buffer.concat([body.subarray(0, start), body.subarray(end)])
}

const local = (name) => name.slice(name.indexOf(':') + 1)

// One pass over the envelope: the organisation's id, and every notification.
function notifications(text) {
  const parser = new SaxesParser({ xmlns: false })
  const found = []
  const path = []
  let organization = '', now, base = 0, began = 0, opened = 0
  let characters = '', leaf = false, nil = false
  parser.on('error', (error) => { throw error })
  parser.on('opentagstart', ({ name }) => {
    // The name is read, and the character after it.
    opened = text.lastIndexOf('<', parser.position - name.length - 1)
  })
  parser.on('opentag', ({ name, attributes }) => {
    const word = local(name)
    path.push(word)
    characters = ''
    leaf = true
    nil = false
    if (path.length > 32) throw new Error('nested too deep')
    if (base === 0) {
      if (word === 'Notification') {
        base = path.length
        began = opened
        now = { id: '', objectType: '', fields: {}, payload: undefined }
      }
      return
    }
    for (const key in attributes) {
      const plain = local(key)
      if (plain === 'nil') nil = attributes[key] === 'true' || attributes[key] === '1'
      else if (plain === 'type' && word === 'sObject') now.objectType = local(attributes[key])
    }
  })
  parser.on('text', (data) => { characters += data })
  parser.on('closetag', () => {
    const depth = path.length
    if (base === 0) {
      if (leaf && path[depth - 1] === 'OrganizationId') organization = characters.trim()
    } else if (depth === base) {
      now.payload = Buffer.from(text.slice(began, parser.position))
      found.push(now)
      base = 0
    } else if (leaf && depth > base + 1 && path[base] === 'sObject') {
      now.fields[path.slice(base + 1).join('.')] = nil ? null : characters
    } else if (leaf && depth === base + 1 && path[depth - 1] === 'Id') now.id = characters.trim()
    leaf = false
    path.pop()
  })
  parser.write(text).close()
  return { organization, found }
}

function event({ id, objectType, fields, payload }, receivedMs) {
  if (!id || !objectType) throw new Error('a notification without id or record')
  const sorted = {}
  for (const name of Object.keys(fields).sort()) sorted[name] = fields[name]
  const values = JSON.stringify(sorted)
  const modified = fields.SystemModstamp || fields.LastModifiedDate
  const [occurredMs, certain] = sourceTime(Date.parse(modified ?? ''), receivedMs)
  const isNew = modified && fields.CreatedDate === modified
  return {
    identity: id,
    content: objectType + values,
    objectType,
    objectId: fields.Id ?? '',
    kind: fields.IsDeleted === 'true' ? DELETED : isNew ? CREATED : UPDATED,
    platformKind: 'outbound message',
    occurredMs,
    certain,
    changed: '',
    values,
    payload,
  }
}
