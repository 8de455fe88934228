// The webhook gateway's hot path in Go, to measure ours against: net/http in, franz-go out.
//
// It verifies, splits, normalises and publishes as ours does, with the raw body on the intake topic,
// and answers once every record is confirmed by all in-sync replicas. What the benchmark's requests
// do not need is left out: parked parts, bounds, metrics, hot reload, replayed requests.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	bodyBytesMax = 8 << 20
	confirmWait  = 4200 * time.Millisecond
)

var errRefused = errors.New("refused") // the proof is wrong: 401

// request is a POST with its body read.
type request struct {
	*http.Request
	body       []byte
	rest       string // what follows the connection's name in the path
	url        string // as the sender knows it
	receivedMs int64
}

// sender knows one platform's webhooks.
type sender interface {
	// read proves the request genuine and tells what it says; the body may be cut by it.
	read(r *request) ([]event, error)
	platform() string
	path(r *request) string
	keptHeaders() []string
	answer() (body []byte, contentType string)
}

type gateway struct {
	kafka     *kgo.Client
	publicURL string
	senders   map[string]sender   // by connection
	encoders  map[string]*encoder // likewise
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/readyz" {
		return
	}
	rest, isHook := strings.CutPrefix(r.URL.Path, "/hooks/")
	name, rest, _ := strings.Cut(rest, "/")
	sender := g.senders[name]
	if !isHook || r.Method != http.MethodPost || sender == nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	body, status := readBody(w, r)
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	asked := &request{r, body, rest, g.publicURL + r.RequestURI, time.Now().UnixMilli()}
	events, err := sender.read(asked)
	switch {
	case errors.Is(err, errRefused):
		w.WriteHeader(http.StatusUnauthorized)
		return
	case err != nil:
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), confirmWait)
	defer cancel()
	if g.kafka.ProduceSync(ctx, g.records(name, sender, asked, events)...).FirstErr() != nil {
		w.Header().Set("Retry-After", "2")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	good, contentType := sender.answer()
	if contentType != "" {
		w.Header().Set("Content-Type", contentType)
	}
	_, _ = w.Write(good)
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, int) {
	if r.ContentLength > bodyBytesMax {
		return nil, http.StatusRequestEntityTooLarge
	}
	if r.ContentLength >= 0 {
		body := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, http.StatusBadRequest
		}
		return body, 0
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyBytesMax))
	if err != nil {
		return nil, http.StatusRequestEntityTooLarge
	}
	return body, 0
}

func (g *gateway) records(name string, s sender, r *request, events []event) []*kgo.Record {
	encoder, topic := g.encoders[name], "events."+s.platform()
	trace := traceOf(r.Header.Get("Traceparent"))
	records := make([]*kgo.Record, 0, len(events)+1)
	records = append(records, g.intake(name, s, r, trace))
	for i := range events {
		records = append(records, encoder.record(topic, &events[i], r.receivedMs, trace))
	}
	return records
}

func (g *gateway) intake(name string, s sender, r *request, trace string) *kgo.Record {
	headers := make([]kgo.RecordHeader, 0, 12)
	add := func(key, value string) {
		headers = append(headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
	}
	add("platform", s.platform())
	add("method", r.Method)
	add("path", s.path(r))
	add("verdict", "accepted")
	add("received_ms", strconv.FormatInt(r.receivedMs, 10))
	add("traceparent", trace)
	for _, kept := range s.keptHeaders() {
		if value := r.Header.Get(kept); value != "" {
			add("http."+kept, value)
		}
	}
	return &kgo.Record{
		Topic: "intake." + s.platform(), Key: []byte(name), Value: r.body, Headers: headers,
	}
}

// traceOf is the sender's own traceparent, else a new one.
func traceOf(given string) string {
	if len(given) == 55 {
		return given
	}
	var fresh [24]byte
	_, _ = rand.Read(fresh[:])
	text := hex.EncodeToString(fresh[:])
	return "00-" + text[:32] + "-" + text[32:] + "-01"
}

func main() {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(os.Getenv("BENCH_BOOTSTRAP"), ",")...),
		kgo.ProducerLinger(time.Millisecond), // idempotent, acks=all, murmur2: the defaults
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.MaxBufferedRecords(200_000),
	)
	if err != nil {
		log.Fatal(err)
	}
	schemaID, err := strconv.ParseUint(os.Getenv("BENCH_SCHEMA_ID"), 10, 32)
	if err != nil {
		log.Fatal("BENCH_SCHEMA_ID: ", err)
	}
	secret := []byte(os.Getenv("BENCH_SECRET"))
	g := &gateway{
		kafka:     client,
		publicURL: os.Getenv("BENCH_PUBLIC_URL"),
		senders: map[string]sender{
			"hubspot":    hubspot{secret: secret, account: os.Getenv("BENCH_PORTAL")},
			"salesforce": salesforce{secret: secret, organization: os.Getenv("BENCH_ORGANIZATION")},
		},
		encoders: map[string]*encoder{
			"hubspot":    newEncoder(uint32(schemaID), "hubspot", "hubspot"),
			"salesforce": newEncoder(uint32(schemaID), "salesforce", "salesforce"),
		},
	}
	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("BENCH_PORT"), Handler: g, ReadHeaderTimeout: 10 * time.Second}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	go func() {
		<-stop.Done()
		_ = server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}
