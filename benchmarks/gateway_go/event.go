package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/crypto/blake2b"
)

// Places in the schema's enumeration of kinds.
const (
	created = 0
	updated = 1
	deleted = 2
	other   = 11
)

// event is one fact in a body, before it gets its id.
type event struct {
	identity     string // an identity field that is not in content; empty: none
	content      []byte // all that it says, the same for a repeat
	objectType   string
	objectID     string
	kind         int64
	platformKind string
	occurredMs   int64
	timeCertain  bool
	changed      string // name of the field that changed; empty: none told
	values       []byte
	payload      []byte
}

// encoder makes the messages of one connection: PlatformEvent in Avro, after a registry's header.
type encoder struct {
	head       []byte // wire format, and the length of an event id
	whose      []byte // connection and platform
	idHead     []byte
	keyHead    string
	typeHead   string
	sourceName string
}

func newEncoder(schemaID uint32, connection, platform string) *encoder {
	head := binary.BigEndian.AppendUint32([]byte{0}, schemaID)
	return &encoder{
		head:       binary.AppendVarint(head, 32),
		whose:      appendText(appendText(nil, connection), platform),
		idHead:     appendPrefixed(appendPrefixed(nil, []byte("event")), []byte(connection)),
		keyHead:    connection + ":",
		typeHead:   "syncline." + platform + ".",
		sourceName: "/connections/" + connection,
	}
}

func (e *encoder) record(topic string, ev *event, receivedMs int64, trace string) *kgo.Record {
	id := e.eventID(ev)
	occurred := time.UnixMilli(ev.occurredMs).UTC().Format("2006-01-02T15:04:05.000Z")
	return &kgo.Record{
		Topic: topic,
		Key:   []byte(e.keyHead + ev.objectType + ":" + ev.objectID),
		Value: e.value(ev, id, receivedMs, trace),
		Headers: []kgo.RecordHeader{
			{Key: "ce_specversion", Value: []byte("1.0")},
			{Key: "ce_id", Value: []byte(id)},
			{Key: "ce_type", Value: []byte(e.typeHead + ev.platformKind)},
			{Key: "ce_source", Value: []byte(e.sourceName)},
			{Key: "ce_time", Value: []byte(occurred)},
			{Key: "traceparent", Value: []byte(trace)},
		},
	}
}

// eventID hashes connection, identity and content, each after its length.
func (e *encoder) eventID(ev *event) string {
	var digest hash.Hash
	digest, _ = blake2b.New(16, nil)
	digest.Write(e.idHead)
	if ev.identity != "" {
		digest.Write(appendPrefixed(nil, []byte(ev.identity)))
	}
	digest.Write(append(strconv.AppendInt(nil, int64(len(ev.content)), 10), ':'))
	digest.Write(ev.content)
	return hex.EncodeToString(digest.Sum(nil))
}

func (e *encoder) value(ev *event, id string, receivedMs int64, trace string) []byte {
	// Exactly an Avro long: zigzag, seven bits a byte, as encoding/binary has it.
	long := binary.AppendVarint
	out := make([]byte, 0, len(ev.payload)+len(ev.values)+300)
	out = append(append(append(out, e.head...), id...), e.whose...)
	out = appendText(appendText(out, ev.objectType), ev.objectID)
	out = long(long(out, ev.kind), 0) // origin: webhook
	out = append(out, 0, 1)           // no run, record number -1
	out = appendBool(long(out, ev.occurredMs), ev.timeCertain)
	out = appendText(long(out, receivedMs), ev.platformKind)
	if ev.changed != "" {
		out = appendText(long(out, 1), ev.changed)
	}
	out = append(out, 0, 1, 0) // end of changed, thin, nothing related
	out = appendText(out, trace)
	out = append(long(out, int64(len(ev.values))), ev.values...)
	return append(long(out, int64(len(ev.payload))), ev.payload...)
}

// canonical sorts the keys, puts no space between, and leaves <, > and & as they are.
func canonical(fields any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(fields); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

func appendText(out []byte, text string) []byte {
	return append(binary.AppendVarint(out, int64(len(text))), text...)
}

func appendBool(out []byte, value bool) []byte {
	if value {
		return append(out, 1)
	}
	return append(out, 0)
}

func appendPrefixed(out, part []byte) []byte {
	out = append(strconv.AppendInt(out, int64(len(part)), 10), ':')
	return append(out, part...)
}

// sourceTime is what the source says, where that can be: else the time of receipt, not certain.
func sourceTime(sourceMs, receivedMs int64) (int64, bool) {
	if sourceMs <= 0 || sourceMs > receivedMs+300_000 {
		return receivedMs, false
	}
	return sourceMs, true
}
