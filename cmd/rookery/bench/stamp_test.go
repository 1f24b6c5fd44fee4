package bench

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestStampIsFoundInsideWhatABrokerMakesOfIt(t *testing.T) {
	const run = "0a1b2c3d"
	want := stamp{sender: 42, seq: 4294967295, due: 1732333333123456789}
	payload := newPayload(run, want.sender, 128)
	want.put(payload)
	wrapped, err := json.Marshal(map[string]any{"GroupId": "g", "MsgBody": []any{map[string]any{"Text": string(payload)}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"as it was": payload, "inside JSON": wrapped} {
		if got, ok := findStamp(run, text); !ok || got != want {
			t.Errorf("findStamp %s = %+v, %v; want %+v", name, got, ok, want)
		}
	}
	if !bytes.Contains(wrapped, payload) {
		t.Error("JSON escapes a byte of the payload, so its size would not be what was asked for")
	}
	for name, text := range map[string][]byte{
		"of another run": newPayload("ffffffff", 1, 128), "cut": payload[:stampSize-1], "empty": nil,
		"no digits": bytes.Replace(payload, []byte("1732"), []byte("17x2"), 1),
	} {
		if got, ok := findStamp(run, text); ok {
			t.Errorf("findStamp of a stamp %s = %+v, want none", name, got)
		}
	}
}

func TestPaddingChangesWithEveryMessage(t *testing.T) {
	p := newPayload("0a1b2c3d", 1, 400)
	stamp{sender: 1, seq: 1, due: 1}.put(p)
	first := bytes.Clone(p[stampSize:])
	stamp{sender: 1, seq: 2, due: 1}.put(p)
	if bytes.Equal(first, p[stampSize:]) {
		t.Error("two messages have the same padding")
	}
}
