package mongo

import (
	"context"
	"iter"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// Logs yields the key of every log in the order of the keys' _ids: those that have a head, and
// those that have messages only.
func (s *Store) Logs(ctx context.Context) iter.Seq2[group.Key, error] {
	return func(yield func(group.Key, error) bool) {
		if err := s.ready(ctx); err != nil {
			yield(group.Key{}, err)
			return
		}
		if err := s.heads.flush(); err != nil {
			yield(group.Key{}, err)
			return
		}
		// Logs without a head are those that a process left behind: reading them writes it.
		for after := ""; ; {
			id, err := s.firstID(ctx, after)
			if err != nil {
				yield(group.Key{}, err)
				return
			}
			if id == "" {
				break
			}
			after = logEnd(id)
			if err := s.touch(ctx, id); err != nil {
				yield(group.Key{}, err)
				return
			}
		}
		if err := s.heads.flush(); err != nil {
			yield(group.Key{}, err)
			return
		}
		for after := ""; ; {
			docs, err := s.find(ctx, s.headDocs, spanFilter("", after, false), false, pageLen, byID)
			if err != nil {
				yield(group.Key{}, err)
				return
			}
			for _, raw := range docs {
				after = raw.Lookup("_id").StringValue()
				key, err := splitHeadID(after)
				if !yield(key, err) || err != nil {
					return
				}
			}
			if len(docs) < pageLen {
				return
			}
		}
	}
}

// firstID returns the head's _id of the first log whose messages lie behind after, or "".
func (s *Store) firstID(ctx context.Context, after string) (string, error) {
	docs, err := s.find(ctx, s.messages, spanFilter("", after, false), false, 1, topFields)
	if err != nil || len(docs) == 0 {
		return "", err
	}
	id, _, err := parseTop(docs[0])
	return id, err
}

func (s *Store) touch(ctx context.Context, id string) error {
	key, err := splitHeadID(id)
	if err == nil {
		_, err = s.readHead(ctx, key)
	}
	return err
}

// Tables returns the names of the tables that have a collection, or records in a shared one.
func (s *Store) Tables(ctx context.Context) ([]string, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	call, cancel := s.deadline(ctx)
	defer cancel()
	names, err := s.db.ListCollectionNames(call, bson.D{})
	if err != nil {
		return nil, unavailable(err)
	}
	var tables []string
	for _, name := range names {
		if table, ok := tableOf(name); ok {
			tables = append(tables, table)
		}
	}
	for _, table := range storage.LoginTables {
		for _, err := range s.Scan(ctx, table, storage.Span{Limit: 1}) {
			if err != nil {
				return nil, err
			}
			tables = append(tables, table)
		}
	}
	slices.Sort(tables)
	return tables, nil
}

// Advance raises the end of a log.
func (s *Store) Advance(ctx context.Context, key group.Key, head storage.Head) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	st, err := s.groups.lock(ctx, key)
	if err != nil {
		return err
	}
	defer s.groups.unlock(key, st)
	if err := s.reload(ctx, st, key); err != nil {
		return err
	}
	if head.Tail < st.head.Tail || head.Epoch < st.head.Epoch || head.Time < st.head.Time {
		return &storage.TailError{Key: key, Want: head.Tail, Head: st.head}
	}
	st.head = higher(st.head, head)
	return s.heads.raise(map[string]storage.Head{headID(key): st.head})
}
