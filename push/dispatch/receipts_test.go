package dispatch

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/push"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/storagetest"
)

// reported is a receipt as the vendor in memory sends it.
type reported struct {
	Kind  push.ReceiptKind
	Token string
	Seq   uint64
	Sent  int64
	Group string // empty: the receipt is of no push
	Sum   bool
}

func (v *vendor) ReceiptSecret() push.Secret { return push.NewSecret(v.receiptSecret) }

func (v *vendor) Receipts(_ http.Header, body []byte) ([]push.Receipt, error) {
	if string(body) == "unsigned" {
		return nil, push.ErrUnsigned
	}
	var list []reported
	if json.Unmarshal(body, &list) != nil {
		return nil, fmt.Errorf("%w: no list", push.ErrBadReceipt)
	}
	out := make([]push.Receipt, len(list))
	for i, r := range list {
		out[i] = push.Receipt{Kind: r.Kind, Token: push.NewToken(r.Token), VendorID: "id"}
		if r.Group != "" {
			out[i].Message = &push.ReceiptMessage{Group: r.Group, From: "ann", Seq: r.Seq, Sent: r.Sent, Random: 9}
		}
		if r.Sum {
			out[i].Message.GroupSum, out[i].Message.Group = push.GroupSum(r.Group), ""
		}
	}
	return out, nil
}

const goodSecret = "0123456789abcdef"

func reporting(name string) *vendor {
	v := android(name)
	v.receiptSecret = goodSecret
	return v
}

// heard is a Reporter that writes down.
type heard struct {
	mu     sync.Mutex
	events []Event
}

func (h *heard) Report(events []Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, events...)
}

func (h *heard) take() (lines []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		lines = append(lines, fmt.Sprintf("%d %s %s>%s %s/%d random=%d sent=%d %s %s", e.Stage, e.Vendor, e.From, e.To, e.Group, e.Seq, e.Random, e.Sent, e.PushID, e.Outcome))
	}
	h.events = nil
	return lines
}

// postTo posts to the door of receipts; status 0 means that there is no such address.
func postTo(d *Dispatcher, app, secret string, body io.Reader) (status int, answer string) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/", body)
	if !d.ServeReceipts(w, r, app, secret) {
		if w.Body.Len() > 0 || w.Code != http.StatusOK {
			return -1, w.Body.String()
		}
		return 0, ""
	}
	return w.Code, w.Body.String()
}

func (w *world) report(list ...reported) {
	w.t.Helper()
	body, err := json.Marshal(list)
	if err != nil {
		w.t.Fatal(err)
	}
	if status, answer := postTo(w.d, "v", goodSecret, strings.NewReader(string(body))); status != http.StatusOK || answer != push.ReceiptAnswer {
		w.t.Errorf("receipts are answered with %d %s", status, answer)
	}
}

// receiptCounts are the receipts counted so far, by kind.
func receiptCounts(t *testing.T, d *Dispatcher) map[string]int {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(d)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int)
	for _, f := range families {
		if f.GetName() != "rookery_push_receipts_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "kind" {
					counts[l.GetValue()] += int(m.GetCounter().GetValue())
				}
			}
		}
	}
	return counts
}

func wantLines(t *testing.T, what string, got, want []string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// newReceiptWorld is a world with one vendor that reports, two members with a device each, and
// one who hears of it.
func newReceiptWorld(t *testing.T, store storage.Store) (*world, *heard) {
	t.Helper()
	w := newWorld(t, store, Config{}, reporting("v"))
	h := new(heard)
	w.d.reporter = h
	w.addGroup(testGroup("g", group.Public), names(3)...)
	w.register("user000001", "phone", "v", "t1")
	w.register("user000002", "phone", "v", "t2")
	return w, h
}

// TestReceiptEvents: what arrived and was clicked is told once, with everything that the receipt
// knows of the message; the rest is counted.
func TestReceiptEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, h := newReceiptWorld(t, memory())
		at := time.Now().Unix()
		arrived := reported{Kind: push.ReceiptArrived, Token: "t1", Group: "g", Seq: 7, Sent: at}
		clicked := arrived
		clicked.Kind = push.ReceiptClicked
		w.report(arrived)
		w.report(
			arrived, clicked, clicked,
			reported{Kind: push.ReceiptArrived, Token: "t2", Group: "g", Seq: 7, Sent: at, Sum: true},
			reported{Kind: push.ReceiptArrived, Token: "t2", Group: "elsewhere", Seq: 7, Sent: at, Sum: true},
			reported{Kind: push.ReceiptArrived, Token: "t2", Group: "elsewhere", Seq: 8, Sent: at},
			reported{Kind: push.ReceiptArrived, Token: "stranger", Group: "g", Seq: 7, Sent: at},
			reported{Kind: push.ReceiptArrived, Token: "t2"},
			reported{Kind: push.ReceiptUndelivered, Token: "t2", Group: "g", Seq: 7, Sent: at},
			reported{Kind: push.ReceiptClicked, Token: "t2", Group: "g", Seq: 8}, // of a push test
			reported{Kind: push.ReceiptOther, Token: "t2", Group: "g", Seq: 7, Sent: at},
		)
		w.report()
		wantLines(t, "the app is told", h.take(), []string{
			fmt.Sprintf("2 huawei ann>user000001 g/7 random=9 sent=%d id accepted", at),
			fmt.Sprintf("3 huawei ann>user000001 g/7 random=9 sent=%d id accepted", at),
			fmt.Sprintf("2 huawei ann>user000002 g/7 random=9 sent=%d id accepted", at),
		})
		want := map[string]int{"arrived": 2, "clicked": 2, "repeated": 2, "unowned": 3, "foreign": 1, "undelivered": 1, "other": 1}
		if got := receiptCounts(t, w.d); !maps.Equal(got, want) {
			t.Errorf("counted are %v, want %v", got, want)
		}
	})
}

// TestReceiptOfTrial: what a push test sends does not pass for a message.
func TestReceiptOfTrial(t *testing.T) {
	w, _ := newReceiptWorld(t, memory())
	v := w.cfg.Apps[0].Provider.(*vendor)
	if _, err := w.d.Explain(t.Context(), Trial{Account: "user000001", Group: "g", Send: true}); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w, _ := newReceiptWorld(t, memory())
		stop := w.run(w.d)
		w.send(message("g", "user000000", "hello"))
		time.Sleep(time.Second)
		stop()
		v := w.cfg.Apps[0].Provider.(*vendor)
		if calls := v.sent(); len(calls) != 1 || calls[0].note.Sent == 0 {
			t.Errorf("a message was sent as %+v", calls)
		}
	})
	if calls := v.sent(); len(calls) != 1 || calls[0].note.Sent != 0 {
		t.Errorf("a trial was sent as %+v", calls)
	}
}

// TestReceiptOfDeadToken: a token goes if it is still what the message was pushed to, and it is
// this provider app's.
func TestReceiptOfDeadToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := reporting("other")
		w := newWorld(t, memory(), Config{}, reporting("v"), other)
		w.addGroup(testGroup("g", group.Public), names(5)...)
		w.register("user000001", "phone", "v", "dead")
		w.register("user000002", "phone", "v", "again")
		w.register("user000003", "phone", "other", "others")
		w.register("user000004", "phone", "v", "unproven")
		w.register("outsider", "phone", "v", "elsewhere")
		time.Sleep(time.Minute)
		sent := time.Now().Unix()
		time.Sleep(time.Minute)
		w.register("user000002", "phone", "v", "again")
		time.Sleep(time.Minute)
		dead := func(token, group string) reported {
			return reported{Kind: push.ReceiptDead, Token: token, Group: group, Seq: 1, Sent: sent}
		}
		w.report(dead("dead", "g"), dead("again", "g"), dead("others", "g"), dead("unproven", ""), dead("elsewhere", "g"))
		w.report(dead("dead", "g"))
		for account, want := range map[group.Account]int{"user000001": 0, "user000002": 1, "user000003": 1, "user000004": 1, "outsider": 1} {
			u, err := w.d.User(t.Context(), account)
			if err != nil || len(u.Devices) != want {
				t.Errorf("%s has %d devices, %v; want %d", account, len(u.Devices), err, want)
			}
		}
		if n := w.rows(storage.PushOwners.Name); n != 4 {
			t.Errorf("%d tokens have owners, want 4", n)
		}
		if logs := w.logs.String(); strings.Contains(logs, "again") || !strings.Contains(logs, "dead push token removed") || strings.Contains(logs, goodSecret) {
			t.Errorf("the log says %s", logs)
		}
	})
}

// TestReceiptsOfMassDeath: where nearly all are called dead, they stay, as when the vendor's
// answer says so.
func TestReceiptsOfMassDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory(), Config{}, reporting("v"))
		w.addGroup(testGroup("g", group.Public), names(200)...)
		var list []reported
		for _, m := range names(200) {
			w.register(m.Account, "phone", "v", "t-"+string(m.Account))
			list = append(list, reported{Kind: push.ReceiptDead, Token: "t-" + string(m.Account), Group: "g", Seq: 1, Sent: time.Now().Unix() + 1})
		}
		time.Sleep(time.Minute)
		w.report(list...)
		if n := w.rows(storage.PushUsers.Name); n != 200 {
			t.Errorf("%d of 200 users kept their token", n)
		}
		if !w.d.lines[0].guard.Suspect() {
			t.Error("nothing is suspected")
		}
		if n := receiptCounts(t, w.d)["dead"]; n != 200 {
			t.Errorf("%d are counted", n)
		}
	})
}

// TestReceiptDoor: what is answered, and that a wrong address is none.
func TestReceiptDoor(t *testing.T) {
	w := newWorld(t, memory(), Config{}, reporting("v"), android("silent"))
	for _, tt := range []struct {
		name, app, secret, body string
		status                  int
	}{
		{"good", "v", goodSecret, "[]", 200},
		{"wrong secret", "v", goodSecret + "x", "[]", 0},
		{"start of the secret", "v", goodSecret[:8], "[]", 0},
		{"no secret", "v", "", "[]", 0},
		{"no such app", "w", goodSecret, "[]", 0},
		{"an app without receipts", "silent", "", "[]", 0},
		{"unsigned", "v", goodSecret, "unsigned", 0},
		{"no receipts", "v", goodSecret, "{", 400},
		{"the largest", "v", goodSecret, "[" + strings.Repeat(" ", maxReceiptBody-2) + "]", 200},
		{"too large", "v", goodSecret, "[" + strings.Repeat(" ", maxReceiptBody-1) + "]", 400},
	} {
		if status, answer := postTo(w.d, tt.app, tt.secret, strings.NewReader(tt.body)); status != tt.status {
			t.Errorf("%s: %d %s, want %d", tt.name, status, answer, tt.status)
		}
	}
	want := map[string]int{"bad_address": 3, "unsigned": 1, "malformed": 2}
	if got := receiptCounts(t, w.d); !maps.Equal(got, want) {
		t.Errorf("counted are %v, want %v", got, want)
	}
	if strings.Contains(w.logs.String(), goodSecret) {
		t.Errorf("the secret shows in %s", w.logs)
	}
}

// TestReceiptBound: no more than so many are worked on, and one that gets no turn is to be repeated.
func TestReceiptBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := newReceiptWorld(t, memory())
		stuck, feed := io.Pipe()
		done := make(chan int, receiptSlots)
		for range receiptSlots {
			go func() {
				status, _ := postTo(w.d, "v", goodSecret, stuck)
				done <- status
			}()
		}
		synctest.Wait()
		if status, _ := postTo(w.d, "v", goodSecret, strings.NewReader("[]")); status != http.StatusServiceUnavailable {
			t.Errorf("one too many is answered with %d", status)
		}
		_ = feed.CloseWithError(io.ErrUnexpectedEOF)
		for range receiptSlots {
			if status := <-done; status != http.StatusBadRequest {
				t.Errorf("a broken body is answered with %d", status)
			}
		}
		if status, _ := postTo(w.d, "v", goodSecret, strings.NewReader("[]")); status != http.StatusOK {
			t.Errorf("afterwards: %d", status)
		}
	})
}

// TestReceiptFaults: whichever read fails, the vendor is asked to repeat, and then all is told, once.
func TestReceiptFaults(t *testing.T) {
	body := `[{"Kind":"arrived","Token":"t1","Group":"g","Seq":1,"Sent":1,"Sum":true},{"Kind":"clicked","Token":"t2","Group":"g","Seq":1,"Sent":1}]`
	for failAt := int64(0); ; failAt++ {
		store := memory()
		w, h := newReceiptWorld(t, store)
		faulty := &storagetest.Faulty{Store: store, FailAt: failAt}
		w.d.store = faulty
		status, answer := postTo(w.d, "v", goodSecret, strings.NewReader(body))
		if !faulty.Fired() {
			if status != http.StatusOK || failAt < 3 {
				t.Errorf("%d %s after %d calls", status, answer, failAt)
			}
			return // no call was left to fail
		}
		if status != http.StatusServiceUnavailable {
			t.Errorf("a failure of call %d is answered with %d %s", failAt, status, answer)
		}
		if told := h.take(); len(told) != 0 {
			t.Errorf("after a failure of call %d it is told %v", failAt, told)
		}
		for range 2 {
			if status, _ := postTo(w.d, "v", goodSecret, strings.NewReader(body)); status != http.StatusOK {
				t.Errorf("the repeated request is answered with %d", status)
			}
		}
		if told := h.take(); len(told) != 2 {
			t.Errorf("after a failure of call %d and a repeat it is told %v", failAt, told)
		}
	}
}

// TestReceiptMemory: what is remembered is bounded, and the newer half of it is always there.
func TestReceiptMemory(t *testing.T) {
	var s receipts
	key := func(n int) (k [16]byte) {
		copy(k[:], fmt.Sprint(n))
		return k
	}
	for n := range 3 * maxSeen {
		if s.repeated(key(n)) {
			t.Fatalf("%d is taken for a repeated one", n)
		}
		if back := n - maxSeen/2 + 1; back >= 0 && n%1000 == 0 && !s.repeated(key(back)) {
			t.Fatalf("at %d it has forgotten %d", n, back)
		}
	}
	if n := len(s.seen) + len(s.past); n > maxSeen {
		t.Errorf("%d are remembered", n)
	}
	s.forget([][16]byte{key(3*maxSeen - 1)})
	if s.repeated(key(3*maxSeen - 1)) {
		t.Error("what was forgotten is taken for repeated")
	}
}
