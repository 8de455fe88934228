"""HTTP in: verify, keep the raw bytes, normalise, publish, answer.

A request goes `edge` (HTTP, bounds, deadlines) → `senders/<platform>` (is it genuine, what does it
say) → `intake` (which records that makes, pure) → `publisher` (on Kafka, acks=all) → the answer.
"""
