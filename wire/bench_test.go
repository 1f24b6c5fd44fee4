package wire

import (
	"encoding/json"
	"strings"
	"testing"
)

// sendRequest has the shape of send_group_msg, the request that matters.
type sendRequest struct {
	GroupID     string          `json:"GroupId" wire:"required"`
	From        string          `json:"From_Account" wire:"account"`
	Random      uint32          `json:"Random" wire:"required"`
	Priority    string          `json:"MsgPriority"`
	Body        json.RawMessage `json:"MsgBody" wire:"required" type:"array"`
	CustomData  string          `json:"CloudCustomData"`
	OnlineOnly  int             `json:"OnlineOnlyFlag" alias:"MsgOnlineOnlyFlag"`
	SendControl []string        `json:"SendMsgControl"`
	Forbid      []string        `json:"ForbidCallbackControl"`
	To          []string        `json:"To_Account" wire:"account"`
	Push        json.RawMessage `json:"OfflinePushInfo" type:"object"`
	AtInfo      json.RawMessage `json:"GroupAtInfo" type:"array"`
	Extension   int             `json:"SupportMessageExtension"`
	Topic       string          `json:"TopicId"`
}

func sendBody(text int) []byte {
	return []byte(`{"GroupId":"@TGS#2J4SZEAEL","From_Account":"alice","Random":3465726526,"MsgPriority":"High",` +
		`"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"` + strings.Repeat("x", text) + `"}}],` +
		`"SendMsgControl":["NoUnread"],"CloudCustomData":"cd","OnlineOnlyFlag":0}`)
}

// How much slower than encoding/json is reading a send_group_msg?
func BenchmarkUnmarshal(b *testing.B) {
	for _, size := range []struct {
		name string
		text int
	}{{"text=100B", 100}, {"text=8KB", 8 << 10}} {
		body := sendBody(size.text)
		for _, by := range []struct {
			name string
			f    func([]byte, any) error
		}{{"wire", Unmarshal}, {"encoding-json", json.Unmarshal}} {
			b.Run(size.name+"/by="+by.name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(body)))
				for b.Loop() {
					var r sendRequest
					if err := by.f(body, &r); err != nil || r.From != "alice" {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// And writing the answer, and a page of 100 members?
func BenchmarkMarshal(b *testing.B) {
	page := infoAnswer{answer: answer{"OK", 0}, Members: make([]memberRecord, 100), Body: json.RawMessage(`[]`)}
	for i := range page.Members {
		page.Members[i] = memberRecord{"account-" + strings.Repeat("y", i%9), 1700000000, "Card"}
	}
	type sent struct {
		answer

		ErrorInfo string `json:"ErrorInfo"`
		Time      int64  `json:"MsgTime"`
		Seq       int64  `json:"MsgSeq" wire:"int32"`
	}
	for name, v := range map[string]any{"sent": sent{answer{"OK", 0}, "", 1700000000, 12345}, "members=100": page} {
		for _, by := range []struct {
			name string
			f    func(any) ([]byte, error)
		}{{"wire", Marshal}, {"encoding-json", json.Marshal}} {
			b.Run(name+"/by="+by.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := by.f(v); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
