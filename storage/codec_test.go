package storage_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/storagetest"
)

// golden are messages whose bytes lie on disks: they must be read for ever, and a change of
// what is written is a new layout with a number of its own.
func golden() map[string]*group.Message {
	small := &group.Message{
		Group: "g", Incarnation: 1, Seq: 300, Time: 1_700_000_000, Expires: 1_700_604_800, From: "alice",
		ID: group.MsgID{0: 1, 15: 2}, Hash: group.BodyHash{0: 3, 15: 4}, Random: 0xDEADBEEF, HasRandom: true,
		Priority: group.Normal, Body: []byte(`[]`),
	}
	full := storagetest.FullMessage(group.Key{ID: "@TGS#_x", Incarnation: 258}, 7)
	full.ID, full.Random = group.MsgID{0: 0xAA, 15: 0xBB}, 1
	full.Body, full.Hash = []byte(`[{"MsgType":"TIMTextElem"}]`), group.BodyHash{0: 0xCC}
	return map[string]*group.Message{"empty": {}, "small": small, "full": full}
}

var goldenBytes = map[string]string{
	"empty": "0100000000" + "00000000000000000000000000000000" + "00000000000000000000000000000000" + "0000",
	"small": "01a902ac020180c49fd50c80ea4901000000000000000000000000000002030000000000000000000000000000040167" +
		"05616c696365deadbeef02025b5d",
	"full": "01ffff07078202eeef9fd50c92ec92f311aa0000000000000000000000000000bbcc0000000000000000000000000000" +
		"000740544753235f7805616c696365aacc95bcf9e2cf972f0e00000001ffff030770686f6e652f31048210011b5b7b22" +
		"4d736754797065223a2254494d54657874456c656d227d5d0f636c6f7564200020c3a920f09f98800e7b225469746c65" +
		"223a226869227d020003626f62010002056361726f6c046461766502416c0b687474703a2f2f66616365044361726405" +
		"41646d696e02036b2e240176000001016d017703626f620961206d697374616b6506",
}

func TestMessageGolden(t *testing.T) {
	for name, m := range golden() {
		want, err := hex.DecodeString(goldenBytes[name])
		if err != nil {
			t.Fatal(err)
		}
		if got := storage.EncodeMessage(nil, m); !bytes.Equal(got, want) {
			t.Errorf("%s: EncodeMessage =\n%x; want\n%x", name, got, want)
		}
		if got, err := storage.DecodeMessage(want); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: DecodeMessage =\n%+v, %v; want\n%+v", name, got, err, m)
		}
	}
}

// TestMessageFields sees to it that no field is forgotten: FullMessage has none that is zero.
func TestMessageFields(t *testing.T) {
	m := storagetest.FullMessage(storagetest.Key("g"), 1)
	v := reflect.ValueOf(*m)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("FullMessage leaves %s zero: the codec's tests would not miss it", v.Type().Field(i).Name)
		}
	}
	got, err := storage.DecodeMessage(storage.EncodeMessage([]byte("before"), m)[len("before"):])
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("DecodeMessage =\n%+v, %v; want\n%+v", got, err, m)
	}
}

func TestDecodeMessageRefuses(t *testing.T) {
	full := storage.EncodeMessage(nil, golden()["full"])
	for n := range full {
		if m, err := storage.DecodeMessage(full[:n]); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("DecodeMessage of %d of %d bytes = %+v, %v; want ErrCorrupt", n, len(full), m, err)
		}
	}
	bad := map[string][]byte{
		"more bytes":    append(slices.Clone(full), 0),
		"other layout":  append([]byte{2}, full[1:]...),
		"unknown parts": {1, 0xFF, 0xFF, 0xFF, 0x7F},
		"huge text":     append(storage.EncodeMessage(nil, &group.Message{})[:37], 0xFF, 0xFF, 0xFF, 0xFF, 0x0F),
	}
	for name, b := range bad {
		if m, err := storage.DecodeMessage(b); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: DecodeMessage = %+v, %v; want ErrCorrupt", name, m, err)
		}
	}
}

func TestDecodeMessageOwns(t *testing.T) {
	m := golden()["full"]
	b := storage.EncodeMessage(nil, m)
	got, err := storage.DecodeMessage(b)
	if err != nil {
		t.Fatal(err)
	}
	clear(b)
	if !reflect.DeepEqual(got, m) {
		t.Errorf("the message changed with the bytes it was read from:\n%+v; want\n%+v", got, m)
	}
}

func FuzzDecodeMessage(f *testing.F) {
	for _, m := range golden() {
		f.Add(storage.EncodeMessage(nil, m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := storage.DecodeMessage(b)
		if err != nil {
			if !errors.Is(err, storage.ErrCorrupt) || m != nil {
				t.Errorf("DecodeMessage = %v, %v; want nil and ErrCorrupt", m, err)
			}
			return
		}
		again, err := storage.DecodeMessage(storage.EncodeMessage(nil, m))
		if err != nil {
			t.Fatalf("what EncodeMessage wrote is refused: %v", err)
		}
		if !bytes.Equal(storage.EncodeMessage(nil, again), storage.EncodeMessage(nil, m)) {
			t.Errorf("a second round trip differs:\n%+v\n%+v", again, m)
		}
	})
}

func BenchmarkMessage(b *testing.B) {
	m := storagetest.NewMessage(storagetest.Key("group"), 1000)
	buf := storage.EncodeMessage(nil, m)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(buf)))
		for b.Loop() {
			buf = storage.EncodeMessage(buf[:0], m)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(buf)))
		for b.Loop() {
			if _, err := storage.DecodeMessage(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}
