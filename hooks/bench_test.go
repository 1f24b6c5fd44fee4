package hooks_test

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/pebble"
)

// BenchmarkSubmit measures acknowledged messages through the whole pipeline into the embedded
// store with fsync: G groups, each with one sender that has W messages under way.
func BenchmarkSubmit(b *testing.B) {
	for _, c := range []struct{ groups, window int }{{1, 1}, {1, 64}, {64, 64}, {1000, 64}} {
		b.Run(fmt.Sprintf("groups=%d/outstanding=%d", c.groups, c.window), func(b *testing.B) {
			store, err := pebble.Open(pebble.Config{Dir: b.TempDir(), Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			defer store.Close()
			p := hooks.New(store, hooks.Config{}, slog.New(slog.DiscardHandler))
			p.UseDeliverer(&discard{})
			if err := store.Apply(b.Context(), storage.Accounts.Put(storage.AccountKey("bob"), &group.Profile{Account: "bob"})); err != nil {
				b.Fatal(err)
			}
			ids := make([]group.ID, c.groups)
			for i := range ids {
				ids[i] = group.ID(fmt.Sprint("g", i))
				err := p.Update(b.Context(), ids[i], func(tx *hooks.Tx) error {
					if err := tx.Create(&group.Group{ID: ids[i], Type: group.Public, CreateTime: tx.Now().Unix()}); err != nil {
						return err
					}
					return tx.PutMember(&group.Member{Account: "bob", Role: group.OrdinaryMember})
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			body := draft("bob", 0, fmt.Sprintf("%0200d", 0)).Body
			slots := make([]chan struct{}, c.groups)
			for i := range slots {
				slots[i] = make(chan struct{}, c.window)
			}
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			per := (b.N + c.groups - 1) / c.groups
			for i, id := range ids {
				wg.Go(func() {
					for n := range per {
						slots[i] <- struct{}{}
						p.Submit(&hooks.Draft{Group: id, From: "bob", Operator: "bob", Random: uint32(n + 1), HasRandom: true, Body: body}, func(o hooks.Outcome) {
							if o.Err != nil {
								b.Error(o.Err)
							}
							<-slots[i]
						})
					}
				})
			}
			wg.Wait()
			for i := range slots {
				for range c.window {
					slots[i] <- struct{}{}
				}
			}
			b.ReportMetric(float64(per*c.groups)/b.Elapsed().Seconds(), "msgs/s")
			if err := p.Close(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

type discard struct{}

func (*discard) Deliver(group.Key, []hooks.Delivery) {}
