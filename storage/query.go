package storage

import "context"

// A Query gathers records of several tables, to be read at once.
type Query struct {
	refs []Ref
	take []func(values [][]byte) error
}

// Ask adds the records under keys to q. Once q has run, the result holds them in the order of
// keys, nil where there is none.
func (t Table[T]) Ask(q *Query, keys []string) []*T {
	out := make([]*T, len(keys))
	at := len(q.refs)
	for _, key := range keys {
		q.refs = append(q.refs, Ref{t.Name, key})
	}
	q.take = append(q.take, func(values [][]byte) (err error) {
		for i, b := range values[at : at+len(keys)] {
			if b == nil {
				continue
			}
			if out[i], err = t.decode(keys[i], b); err != nil {
				return err
			}
		}
		return nil
	})
	return out
}

// Run reads what was asked for.
func (q *Query) Run(ctx context.Context, r Records) error {
	if len(q.refs) == 0 {
		return nil
	}
	values, err := r.GetAll(ctx, q.refs)
	if err != nil {
		return err
	}
	for _, take := range q.take {
		if err := take(values); err != nil {
			return err
		}
	}
	return nil
}
