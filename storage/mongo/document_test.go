package mongo

import (
	"bytes"
	"errors"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// FuzzDecodeMessage wants no panic, ErrCorrupt for what is refused, and that what is read is written again
// as something that reads the same.
func FuzzDecodeMessage(f *testing.F) {
	key := group.Key{ID: "g %:", Incarnation: 2}
	m := batch(key, 6, 1, 'a').Messages[0]
	m.Sender.UserCustom = []group.Field{{Key: "k\x00", Value: "\xff"}}
	m.Expires, m.Random, m.HasRandom = 1_900_000_000, 7, true
	raw, err := encodeMessage(headID(key), m, 3)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(raw))
	f.Add([]byte(raw)[:len(raw)-9])
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMessage(bson.Raw(b))
		if err != nil {
			if !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("decodeMessage = %v; want ErrCorrupt", err)
			}
			return
		}
		once, err := encodeMessage(headID(m.Key()), m, m.Epoch)
		if err != nil {
			return // larger than a document holds
		}
		again, err := decodeMessage(once)
		if err != nil {
			t.Fatalf("what was written is refused: %v", err)
		}
		twice, err := encodeMessage(headID(again.Key()), again, again.Epoch)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%v, %v: not the same when written again, %v", once, twice, err)
		}
	})
}
