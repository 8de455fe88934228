package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
)

// hubspot reads webhooks signed with v3.
type hubspot struct {
	secret  []byte
	account string
}

var hubspotKept = []string{
	"content-type", "user-agent", "x-hubspot-signature", "x-hubspot-signature-version",
	"x-hubspot-signature-v3", "x-hubspot-request-timestamp",
}

// What v3 decodes in an address before signing, and no more.
var decoded = strings.NewReplacer(
	"%3A", ":", "%2F", "/", "%3F", "?", "%40", "@", "%21", "!", "%24", "$", "%27", "'", "%28", "(",
	"%29", ")", "%2A", "*", "%2C", ",", "%3B", ";", "%3a", ":", "%2f", "/", "%3f", "?", "%2a", "*",
	"%2c", ",", "%3b", ";",
)

func (hubspot) platform() string         { return "hubspot" }
func (hubspot) path(r *request) string   { return r.RequestURI }
func (hubspot) keptHeaders() []string    { return hubspotKept }
func (hubspot) answer() ([]byte, string) { return nil, "" }

func (h hubspot) read(r *request) ([]event, error) {
	if !h.isGenuine(r) {
		return nil, errRefused
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(r.body, &elements); err != nil {
		return nil, err
	}
	if len(elements) > 1000 {
		return nil, errors.New("too many events")
	}
	events := make([]event, len(elements))
	for i, element := range elements {
		if err := h.event(element, r.receivedMs, &events[i]); err != nil {
			return nil, err
		}
	}
	return events, nil
}

func (h hubspot) isGenuine(r *request) bool {
	stamp := r.Header.Get("X-Hubspot-Request-Timestamp")
	stampMs, err := strconv.ParseInt(stamp, 10, 64)
	if age := r.receivedMs - stampMs; err != nil || age > 300_000 || age < -300_000 {
		return false
	}
	url := r.url
	if strings.Contains(url, "%") {
		url = decoded.Replace(url)
	}
	mac := hmac.New(sha256.New, h.secret)
	mac.Write([]byte(r.Method))
	mac.Write([]byte(url))
	mac.Write(r.body)
	mac.Write([]byte(stamp))
	expected := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return hmac.Equal([]byte(expected), []byte(r.Header.Get("X-Hubspot-Signature-V3")))
}

func (h hubspot) event(payload []byte, receivedMs int64, into *event) error {
	var fields map[string]any
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber() // ids stay what they are
	if err := decoder.Decode(&fields); err != nil {
		return err
	}
	if text(fields["portalId"]) != h.account {
		return errors.New("of a portal that is no connection here")
	}
	subscription := text(fields["subscriptionType"])
	word, verb, _ := strings.Cut(subscription, ".")
	kind := int64(other)
	switch verb {
	case "creation", "restore":
		kind = created
	case "propertyChange":
		kind = updated
	case "deletion", "privacyDeletion":
		kind = deleted
	default:
		return errors.New("not in the benchmark: " + verb)
	}
	changed, values, err := change(verb, fields)
	if err != nil {
		return err
	}
	sourceMs, _ := strconv.ParseInt(text(fields["occurredAt"]), 10, 64)
	occurredMs, certain := sourceTime(sourceMs, receivedMs)
	delete(fields, "attemptNumber")   // all that a repeat differs in
	content, err := canonical(fields) // the same however the sender orders and escapes
	if err != nil {
		return err
	}
	*into = event{
		content:      content,
		objectType:   word,
		objectID:     text(fields["objectId"]),
		kind:         kind,
		platformKind: subscription,
		occurredMs:   occurredMs,
		timeCertain:  certain,
		changed:      changed,
		values:       values,
		payload:      payload,
	}
	return nil
}

// change tells what has changed, and its new value.
func change(verb string, fields map[string]any) (string, []byte, error) {
	name, told := fields["propertyName"].(string)
	if verb != "propertyChange" || !told {
		return "", []byte("{}"), nil
	}
	values, err := canonical(map[string]any{name: fields["propertyValue"]})
	return name, values, err
}

// text is a number, or a text, as a text.
func text(value any) string {
	switch value := value.(type) {
	case string:
		return value
	case json.Number:
		return value.String()
	}
	return ""
}
