package main

import (
	"bytes"
	"crypto/subtle"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"time"
)

// salesforce reads outbound messages: SOAP, with a secret in the address.
type salesforce struct {
	secret       []byte
	organization string
}

const ack = `<?xml version="1.0" encoding="UTF-8"?>` +
	`<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>` +
	`<notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack>` +
	`</notificationsResponse></soapenv:Body></soapenv:Envelope>`

var salesforceKept = []string{"content-type", "soapaction", "user-agent"}

func (salesforce) platform() string         { return "salesforce" }
func (salesforce) path(r *request) string   { return strings.TrimSuffix(r.URL.Path, r.rest) }
func (salesforce) keptHeaders() []string    { return salesforceKept }
func (salesforce) answer() ([]byte, string) { return []byte(ack), "text/xml; charset=utf-8" }

func (s salesforce) read(r *request) ([]event, error) {
	if subtle.ConstantTimeCompare([]byte(r.rest), s.secret) != 1 {
		return nil, errRefused
	}
	r.body = withoutSession(r.body)
	organization, found, err := notifications(r.body)
	if subtle.ConstantTimeCompare([]byte(organization), []byte(s.organization)) != 1 {
		return nil, errRefused
	}
	if err != nil {
		return nil, err
	}
	events := make([]event, len(found))
	for i := range found {
		if events[i], err = found[i].event(r.receivedMs); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// withoutSession cuts a live login out of the body.
func withoutSession(body []byte) []byte {
	start := bytes.Index(body, []byte("<SessionId>"))
	if start < 0 {
		return body
	}
	start += len("<SessionId>")
	length := bytes.Index(body[start:], []byte("</SessionId>"))
	if length < 0 {
		return body[:start]
	}
	return append(body[:start:start], body[start+length:]...)
}

type notification struct {
	id         string
	objectType string
	fields     map[string]*string
	payload    []byte
}

// notifications is one pass over the envelope: the organisation's id, and every notification.
func notifications(body []byte) (organization string, found []notification, err error) {
	decoder := xml.NewDecoder(bytes.NewReader(body))
	var path []string
	var text strings.Builder
	var now notification
	var began int64
	base, leaf, isNil := 0, false, false
	for {
		offset := decoder.InputOffset()
		token, err := decoder.Token()
		if err == io.EOF {
			return organization, found, nil
		}
		if err != nil {
			return organization, nil, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			local := token.Name.Local
			path = append(path, local)
			text.Reset()
			leaf, isNil = true, false
			switch {
			case len(path) > 32:
				return organization, nil, errors.New("nested too deep")
			case base == 0 && local == "Notification":
				base, began, now = len(path), offset, notification{fields: make(map[string]*string, 16)}
			case base > 0:
				for _, attribute := range token.Attr {
					switch {
					case attribute.Name.Local == "nil":
						isNil = attribute.Value == "true" || attribute.Value == "1"
					case attribute.Name.Local == "type" && local == "sObject" && len(path) == base+1:
						_, now.objectType, _ = strings.Cut(attribute.Value, ":")
					}
				}
			}
		case xml.CharData:
			text.Write(token)
		case xml.EndElement:
			depth := len(path)
			switch {
			case base == 0:
				if leaf && path[depth-1] == "OrganizationId" {
					organization = strings.TrimSpace(text.String())
				}
			case depth == base:
				now.payload = body[began:decoder.InputOffset()]
				found = append(found, now)
				base = 0
			case leaf && depth > base+1 && path[base] == "sObject":
				field := strings.Join(path[base+1:], ".")
				if now.fields[field] = nil; !isNil {
					value := text.String()
					now.fields[field] = &value
				}
			case leaf && depth == base+1 && path[depth-1] == "Id":
				now.id = strings.TrimSpace(text.String())
			}
			leaf = false
			path = path[:depth-1]
		}
	}
}

func (n *notification) event(receivedMs int64) (event, error) {
	if n.id == "" || n.objectType == "" {
		return event{}, errors.New("a notification without id or record")
	}
	values, err := canonical(n.fields)
	if err != nil {
		return event{}, err
	}
	modified := n.field("SystemModstamp")
	if modified == "" {
		modified = n.field("LastModifiedDate")
	}
	var sourceMs int64
	if at, err := time.Parse("2006-01-02T15:04:05.000Z07:00", modified); err == nil {
		sourceMs = at.UnixMilli()
	}
	occurredMs, certain := sourceTime(sourceMs, receivedMs)
	kind := int64(updated)
	switch {
	case n.field("IsDeleted") == "true":
		kind = deleted
	case modified != "" && n.field("CreatedDate") == modified:
		kind = created
	}
	return event{
		identity:     n.id,
		content:      append([]byte(n.objectType), values...),
		objectType:   n.objectType,
		objectID:     n.field("Id"),
		kind:         kind,
		platformKind: "outbound message",
		occurredMs:   occurredMs,
		timeCertain:  certain,
		values:       values,
		payload:      n.payload,
	}, nil
}

func (n *notification) field(name string) string {
	if value := n.fields[name]; value != nil {
		return *value
	}
	return ""
}
