package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
)

// A Table gives the records of one table their type. Values are stored as JSON, so that a
// field can be added without a migration; a table's name and keys are part of the schema.
type Table[T any] struct{ Name string }

// Get returns the record, or ErrNotFound.
func (t Table[T]) Get(ctx context.Context, r Records, key string) (*T, error) {
	b, err := r.Get(ctx, t.Name, key)
	if err != nil {
		return nil, err
	}
	return t.decode(key, b)
}

// Find is Get with nil for a record that is not there.
func (t Table[T]) Find(ctx context.Context, r Records, key string) (*T, error) {
	v, err := t.Get(ctx, r, key)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return v, err
}

// GetMany returns the records in the order of keys, nil where there is none.
func (t Table[T]) GetMany(ctx context.Context, r Records, keys []string) ([]*T, error) {
	raw, err := r.GetMany(ctx, t.Name, keys)
	if err != nil {
		return nil, err
	}
	out := make([]*T, len(raw))
	for i, b := range raw {
		if b == nil {
			continue
		}
		if out[i], err = t.decode(keys[i], b); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Scan yields the records of a span with their keys.
func (t Table[T]) Scan(ctx context.Context, r Records, s Span) iter.Seq2[Row[T], error] {
	return func(yield func(Row[T], error) bool) {
		for rec, err := range r.Scan(ctx, t.Name, s) {
			if err != nil {
				yield(Row[T]{}, err)
				return
			}
			v, err := t.decode(rec.Key, rec.Value)
			if !yield(Row[T]{Key: rec.Key, Value: v}, err) || err != nil {
				return
			}
		}
	}
}

// Put returns the mutation that writes v under key.
func (t Table[T]) Put(key string, v *T) Mutation { return t.write(Put, key, v) }

// Insert returns the mutation that writes v under key if there is no such record.
func (t Table[T]) Insert(key string, v *T) Mutation { return t.write(Insert, key, v) }

// Delete returns the mutation that removes the record under key.
func (t Table[T]) Delete(key string) Mutation { return Mutation{Op: Delete, Table: t.Name, Key: key} }

// DeletePrefix returns the mutation that removes all records whose key starts with prefix.
func (t Table[T]) DeletePrefix(prefix string) Mutation {
	return Mutation{Op: DeletePrefix, Table: t.Name, Key: prefix}
}

// A Row is one record of a typed table.
type Row[T any] struct {
	Key   string
	Value *T
}

func (t Table[T]) write(op Op, key string, v *T) Mutation {
	b, err := json.Marshal(v)
	if err != nil {
		// The tables hold plain structs of ours: this can't happen with data, only with a new type that json refuses.
		panic(fmt.Sprintf("storage: table %s: %v", t.Name, err))
	}
	return Mutation{Op: op, Table: t.Name, Key: key, Value: b}
}

func (t Table[T]) decode(key string, b []byte) (*T, error) {
	v := new(T)
	if plain := plainDecoders[t.Name]; plain != nil {
		if plain(b, v) {
			return v, nil
		}
		v = new(T)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("storage: table %s: record %q: %w", t.Name, key, err)
	}
	return v, nil
}
