package mongo

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"
)

// maxTimeout bounds every call, so that a late write can't come after the messages at its place
// have expired.
const maxTimeout = 10 * time.Second

// Config says where the server is and how it is used. URI and Database are needed.
type Config struct {
	// URI is the connection string, password included.
	URI string
	// Database is the name of the database; it may be shared with nothing else.
	Database string
	// PoolSize is the most connections to each server. Zero means 100.
	PoolSize int
	// ConnectTimeout bounds the opening of a connection and the search for a server. Zero means 5 s.
	ConnectTimeout time.Duration
	// Timeout bounds one call, retries included; at most 10 s. Zero means 10 s.
	Timeout time.Duration
	// BatchDocuments bounds the messages and records of one round trip. Zero means 1,000.
	BatchDocuments int
	// BatchBytes bounds the size of one round trip. Zero means 8 MiB.
	BatchBytes int
	// InFlight bounds the shared writes that are under way at once. Zero means 8.
	InFlight int
	// QueueLen bounds the writes that wait for a place in a round trip; a further one is refused
	// with storage.ErrUnavailable. Zero means 65,536.
	QueueLen int
	// HeadInterval is the time between writes of the heads of groups that got messages. Zero means 1 s.
	HeadInterval time.Duration
	// Monitor sees every command that is sent. Nil means nobody does.
	Monitor *event.CommandMonitor
	// Logger gets the store's life-cycle and troubles. Nil means none.
	Logger *slog.Logger

	// uncheckedPosition is a planted bug: a duplicate key counts as success.
	uncheckedPosition bool
}

// Validate reports every bad field.
func (c Config) Validate() error {
	var errs []error
	if !strings.HasPrefix(c.URI, "mongodb://") && !strings.HasPrefix(c.URI, "mongodb+srv://") {
		errs = append(errs, errors.New("storage.mongo.uri: neither mongodb://… nor mongodb+srv://…")) // the URI has a password
	}
	if c.Database == "" || strings.ContainsAny(c.Database, "/\\. \"$*<>:|?\x00") {
		errs = append(errs, fmt.Errorf("storage.mongo.database: %q is not the name of a database", c.Database))
	}
	for _, n := range []struct {
		key   string
		value int
	}{
		{"pool_size", c.PoolSize}, {"batch_documents", c.BatchDocuments}, {"batch_bytes", c.BatchBytes}, {"in_flight", c.InFlight}, {"queue_len", c.QueueLen},
	} {
		if n.value < 0 {
			errs = append(errs, fmt.Errorf("storage.mongo.%s: %d is negative", n.key, n.value))
		}
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"connect_timeout", c.ConnectTimeout}, {"timeout", c.Timeout}, {"head_interval", c.HeadInterval}} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("storage.mongo.%s: %v is negative", d.key, d.value))
		}
	}
	if c.Timeout > maxTimeout {
		errs = append(errs, fmt.Errorf("storage.mongo.timeout: %v is more than %v", c.Timeout, maxTimeout))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	c.PoolSize = cmp.Or(c.PoolSize, 100)
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, 5*time.Second)
	c.Timeout = cmp.Or(c.Timeout, maxTimeout)
	c.BatchDocuments = cmp.Or(c.BatchDocuments, 1000)
	c.BatchBytes = cmp.Or(c.BatchBytes, 8<<20)
	c.InFlight = cmp.Or(c.InFlight, 8)
	c.QueueLen = cmp.Or(c.QueueLen, 65536)
	c.HeadInterval = cmp.Or(c.HeadInterval, time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
