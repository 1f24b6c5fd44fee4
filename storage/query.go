package storage

import "context"

// A Query gathers records of several tables, to be read at once.
type Query struct{ asks []ask }

type ask struct {
	refs   []Ref
	shared bool
	decode func(i int, value []byte) (any, error)
	set    func(i int, v any)
}

// A Sharer is a store that keeps records of GroupTables in memory, decoded, for all who read
// them. What it returns is as new as what GetAll returns.
type Sharer interface {
	// Shared returns what decode makes of the values of refs, nil where there is none. Of many
	// callers who ask for a record at the same moment one reads it.
	Shared(ctx context.Context, refs []Ref, decode func(i int, value []byte) (any, error)) ([]any, error)
}

// Ask adds the records under keys to q. Once q has run, the result holds them in the order of
// keys, nil where there is none.
func (t Table[T]) Ask(q *Query, keys []string) []*T { return t.ask(q, keys, false) }

// AskShared is Ask for a table of GroupTables. The records are shared: do not change them.
func (t Table[T]) AskShared(q *Query, keys []string) []*T { return t.ask(q, keys, true) }

func (t Table[T]) ask(q *Query, keys []string, shared bool) []*T {
	out := make([]*T, len(keys))
	refs := make([]Ref, len(keys))
	for i, key := range keys {
		refs[i] = Ref{t.Name, key}
	}
	q.asks = append(q.asks, ask{
		refs, shared,
		func(i int, value []byte) (any, error) { return t.decode(keys[i], value) },
		func(i int, v any) { out[i] = v.(*T) },
	})
	return out
}

// AskWhether is Ask for whether there are such records.
func (t Table[T]) AskWhether(q *Query, keys []string) []bool {
	there := make([]bool, len(keys))
	refs := make([]Ref, len(keys))
	for i, key := range keys {
		refs[i] = Ref{t.Name, key}
	}
	q.asks = append(q.asks, ask{
		refs, false,
		func(int, []byte) (any, error) { return true, nil },
		func(i int, _ any) { there[i] = true },
	})
	return there
}

// Run reads what was asked for.
func (q *Query) Run(ctx context.Context, r Records) error {
	sharer, shares := r.(Sharer)
	var refs []Ref
	for _, a := range q.asks {
		if !a.shared || !shares {
			refs = append(refs, a.refs...)
			continue
		}
		found, err := sharer.Shared(ctx, a.refs, a.decode)
		if err != nil {
			return err
		}
		for i, v := range found {
			if v != nil {
				a.set(i, v)
			}
		}
	}
	if len(refs) == 0 {
		return nil
	}
	values, err := r.GetAll(ctx, refs)
	if err != nil {
		return err
	}
	for _, a := range q.asks {
		if a.shared && shares {
			continue
		}
		for i, b := range values[:len(a.refs)] {
			if b == nil {
				continue
			}
			v, err := a.decode(i, b)
			if err != nil {
				return err
			}
			a.set(i, v)
		}
		values = values[len(a.refs):]
	}
	return nil
}
