package mongo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/rookery-im/rookery/storage"
)

// The names of the collections besides those of tables.
const (
	messagesName = "messages"
	headsName    = "heads"
	metaName     = "meta"
)

// A Store is a MongoDB database.
type Store struct {
	cfg      Config
	client   *mongo.Client
	db       *mongo.Database
	messages *mongo.Collection
	headDocs *mongo.Collection
	meta     *mongo.Collection
	// ttl says that the server removes expired messages.
	ttl bool
	// many makes updates and deletions of one document ask for many, of which there is one:
	// FerretDB 1.24 keeps a connection to its backend, which has 100, for each one of a command
	// that found its document and did not ask for more, and stands still when there are no more.
	many bool

	groups  groups
	heads   heads
	sweeper sweeper
	metrics *metrics
	health  health
	// appends carries messages, with at most one step before them; changes everything else.
	appends, changes *committer

	closed  atomic.Bool
	closing chan struct{}
	running sync.WaitGroup
}

var (
	_ storage.Store      = (*Store)(nil)
	_ storage.Enumerator = (*Store)(nil)
)

// Open connects to the server, makes the indexes that are missing, and checks the schema
// version. It fails when the server can't be reached within ctx or cfg.Timeout.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	s := &Store{cfg: cfg, metrics: newMetrics(), closing: make(chan struct{})}
	client, err := mongo.Connect(s.clientOptions())
	if err != nil {
		return nil, fmt.Errorf("storage.mongo.uri: %w", err)
	}
	s.client = client
	s.db = client.Database(cfg.Database)
	s.messages, s.headDocs, s.meta = s.db.Collection(messagesName), s.db.Collection(headsName), s.db.Collection(metaName)
	s.heads.write = s.writeHeads
	s.appends, s.changes = newCommitter(cfg, s.send), newCommitter(cfg, s.send)
	s.running.Go(s.keepHeads)
	err = s.askServer(ctx)
	if err == nil {
		err = s.makeIndexes(ctx)
	}
	if err == nil {
		err = storage.CheckSchema(ctx, s)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	cfg.Logger.Info("mongodb store opened", "database", cfg.Database, "ttl", s.ttl)
	return s, nil
}

func (s *Store) clientOptions() *options.ClientOptions {
	journal := true
	return options.Client().ApplyURI(s.cfg.URI).
		SetAppName("rookery").
		SetWriteConcern(&writeconcern.WriteConcern{W: writeconcern.WCMajority, Journal: &journal}).
		SetReadConcern(readconcern.Majority()).
		SetReadPreference(readpref.Primary()).
		SetRetryWrites(true).
		SetRetryReads(true).
		SetMaxPoolSize(uint64(s.cfg.PoolSize)).
		SetConnectTimeout(s.cfg.ConnectTimeout).
		SetServerSelectionTimeout(s.cfg.ConnectTimeout).
		SetTimeout(s.cfg.Timeout).
		SetMonitor(s.metrics.monitor(s.cfg.Monitor))
}

// askServer finds out with what it speaks.
func (s *Store) askServer(ctx context.Context) error {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	var info bson.Raw
	err := s.db.RunCommand(ctx, bson.D{{Key: "buildInfo", Value: 1}}).Decode(&info)
	if err != nil {
		return fmt.Errorf("storage.mongo: %w", unavailable(err))
	}
	_, err = info.LookupErr("ferretdbVersion")
	s.many = err == nil
	return nil
}

// makeIndexes makes the indexes that are missing.
func (s *Store) makeIndexes(ctx context.Context) error {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	_, err := s.messages.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{Key: "h", Value: 1}, {Key: "_id", Value: 1}}})
	if err != nil {
		return s.indexError(err)
	}
	expiry := bson.D{{Key: "x", Value: 1}}
	_, err = s.messages.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: expiry, Options: options.Index().SetExpireAfterSeconds(0)})
	if err == nil {
		s.ttl = true
		return nil
	}
	if !refusesOption(err) {
		return s.indexError(err)
	}
	_, err = s.messages.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: expiry})
	return s.indexError(err)
}

// Codes of server errors.
const (
	codeUnauthorized         = 13
	codeCannotCreateIndex    = 67
	codeInvalidOptions       = 72
	codeIndexOptionsConflict = 85
	codeNotImplemented       = 238
	codeOutOfDiskSpace       = 14031
)

// refusesOption reports whether the server does not know an option of the index.
func refusesOption(err error) bool {
	return hasCode(err, codeNotImplemented) || hasCode(err, codeCannotCreateIndex) || hasCode(err, codeInvalidOptions)
}

func hasCode(err error, code int) bool {
	e, ok := errors.AsType[mongo.ServerError](err)
	return ok && e.HasErrorCode(code)
}

func (s *Store) indexError(err error) error {
	switch {
	case err == nil:
		return nil
	case hasCode(err, codeUnauthorized):
		return fmt.Errorf("storage.mongo: the account may not create indexes in database %q; give it the role readWrite there: %w", s.cfg.Database, err)
	case hasCode(err, codeIndexOptionsConflict):
		return fmt.Errorf("storage.mongo: collection %q has an index on the same fields with other options (by a server without TTL?); drop it and start again: %w", messagesName, err)
	}
	return fmt.Errorf("storage.mongo: indexes: %w", unavailable(err))
}

// Close writes the heads that are due and disconnects. What was being written is ended first.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return storage.ErrClosed
	}
	close(s.closing)
	s.appends.close()
	s.changes.close()
	s.running.Wait()
	err := s.heads.flush()
	ctx, cancel := s.deadline(context.Background())
	defer cancel()
	return errors.Join(err, s.client.Disconnect(ctx))
}

// ready refuses a call on a closed store, or one whose ctx has ended.
func (s *Store) ready(ctx context.Context) error {
	if s.closed.Load() {
		return storage.ErrClosed
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// deadline bounds one call to the server.
func (s *Store) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.cfg.Timeout)
}

// parallel runs calls at once and waits for all.
func (s *Store) parallel(calls ...func()) {
	if len(calls) == 1 {
		calls[0]()
		return
	}
	var wg sync.WaitGroup
	for _, call := range calls {
		wg.Go(call)
	}
	wg.Wait()
}

// unavailable says that err is the server's or the way's to it, and the outcome unknown.
func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
}

// writeRefused is the error for a document that the server did not take.
func writeRefused(err error) error {
	if hasCode(err, codeOutOfDiskSpace) {
		return fmt.Errorf("%w: %w", storage.ErrReadOnly, err)
	}
	return unavailable(err)
}

// health remembers what the last ping met.
type health struct {
	mu  sync.Mutex
	at  time.Time
	err error
}

const (
	// pingInterval is how long an answer of Health is good for.
	pingInterval = time.Second
	// pingTimeout bounds how long Health waits for the server.
	pingTimeout = 2 * time.Second
)

// Health asks the server at most once a second.
func (s *Store) Health(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	h := &s.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.at.IsZero() && time.Since(h.at) < pingInterval {
		return h.err
	}
	// Whoever asks next gets this answer too, so the caller's ctx must not decide it.
	ping, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(pingTimeout, s.cfg.Timeout))
	defer cancel()
	h.err = unavailable(s.client.Ping(ping, readpref.Primary()))
	h.at = time.Now()
	return h.err
}
