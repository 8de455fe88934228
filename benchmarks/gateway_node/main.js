// The webhook gateway's hot path in Node, to measure ours against: fastify in, kafkajs out.
//
// It verifies, splits, normalises and publishes as ours does, with the raw body on the intake topic,
// and answers once every record is confirmed by all in-sync replicas. What the benchmark's requests
// do not need is left out. kafkajs gets what is cheapest for it: no compression (its only one without
// a native add-on is gzip) and no idempotence (which allows it a single request at a time).
import { randomBytes } from 'node:crypto'
import Fastify from 'fastify'
import { CompressionTypes, Kafka, Partitioners, logLevel } from 'kafkajs'
import { encoderOf } from './event.js'
import { hubspot } from './hubspot.js'
import { salesforce } from './salesforce.js'

const env = process.env
const senders = {
  hubspot: hubspot(env.BENCH_SECRET, env.BENCH_PORTAL),
  salesforce: salesforce(env.BENCH_SECRET, env.BENCH_ORGANIZATION),
}
const encoders = {}
for (const name of Object.keys(senders)) {
  encoders[name] = await encoderOf(Number(env.BENCH_SCHEMA_ID), name, name)
}

const kafka = new Kafka({ brokers: env.BENCH_BOOTSTRAP.split(','), logLevel: logLevel.ERROR })
const producer = kafka.producer({
  allowAutoTopicCreation: false,
  createPartitioner: Partitioners.DefaultPartitioner, // murmur2, as Java's client
})
await producer.connect()

const app = Fastify({ bodyLimit: 8 * 1024 * 1024 })
app.removeAllContentTypeParsers()
app.addContentTypeParser('*', { parseAs: 'buffer' }, (_, body, done) => done(null, body))
app.get('/readyz', async () => '')
app.post('/hooks/:connection', take)
app.post('/hooks/:connection/:rest', take)
await app.listen({ host: '127.0.0.1', port: Number(env.BENCH_PORT) })
process.on('SIGTERM', async () => {
  await app.close()
  await producer.disconnect()
})

async function take(request, reply) {
  const { connection, rest } = request.params
  const sender = senders[connection]
  if (sender === undefined) return reply.code(401).send()
  const receivedMs = Date.now()
  const found = sender.read(request, env.BENCH_PUBLIC_URL, receivedMs)
  if (found === undefined) return reply.code(401).send()
  const { body, events } = found
  const trace = traceOf(request.headers.traceparent)
  const encoder = encoders[connection]
  const topicMessages = [
    {
      topic: `intake.${connection}`,
      messages: [raw(request, connection, rest, sender, body, receivedMs, trace)],
    },
  ]
  if (events.length > 0) {
    topicMessages.push({
      topic: `events.${connection}`,
      messages: events.map((event) => encoder.message(event, receivedMs, trace)),
    })
  }
  try {
    await producer.sendBatch({ acks: -1, compression: CompressionTypes.None, topicMessages })
  } catch {
    return reply.code(503).header('retry-after', '2').send()
  }
  const [answer, type] = sender.answer
  if (type) reply.type(type)
  return reply.send(answer)
}

function raw(request, connection, rest, sender, body, receivedMs, trace) {
  const path = rest === undefined ? request.url : request.url.slice(0, -rest.length)
  const headers = {
    platform: connection,
    method: request.method,
    path,
    verdict: 'accepted',
    received_ms: String(receivedMs),
    traceparent: trace,
  }
  for (const name of sender.kept) {
    const value = request.headers[name]
    if (value !== undefined) headers[`http.${name}`] = value
  }
  return { key: connection, value: body, headers }
}

// The sender's own traceparent, else a new one.
function traceOf(given) {
  if (given?.length === 55) return given
  const fresh = randomBytes(24).toString('hex')
  return `00-${fresh.slice(0, 32)}-${fresh.slice(32)}-01`
}
