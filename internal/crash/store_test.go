package crash

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/mongo"
	"github.com/rookery-im/rookery/storage/mongo/testserver"
	"github.com/rookery-im/rookery/storage/pebble"
)

// A backend is where the nodes of a world keep their messages.
type backend interface {
	// env makes a node use it.
	env() []string
	// open opens it beside or after the nodes.
	open(t *testing.T, dataDir string) storage.Store
}

// embedded is the store in the node's data folder. It can be opened when the node has ended.
type embedded struct{}

func (embedded) env() []string { return nil }

func (embedded) open(t *testing.T, dataDir string) storage.Store {
	t.Helper()
	store, err := pebble.Open(pebble.Config{Dir: filepath.Join(dataDir, "store"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// database is a MongoDB database.
type database struct{ uri, name string }

// newDatabase returns one that is empty.
func newDatabase(t *testing.T) database {
	t.Helper()
	testserver.Real(t)
	return database{testserver.URI(t), testserver.Database(t)}
}

func (d database) env() []string {
	return []string{"ROOKERY_STORAGE_DRIVER=mongo", "ROOKERY_STORAGE_MONGO_URI=" + d.uri, "ROOKERY_STORAGE_MONGO_DATABASE=" + d.name}
}

func (d database) open(t *testing.T, _ string) storage.Store {
	t.Helper()
	store, err := mongo.Open(t.Context(), mongo.Config{URI: d.uri, Database: d.name})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// mongoScale is what the test server can carry: it scans a whole collection for each query.
var mongoScale = scale{
	groups: 4, publishers: 8, subscribers: 5, outstanding: 2, pause: 40 * time.Millisecond,
	life: [2]time.Duration{200 * time.Millisecond, 1500 * time.Millisecond},
}

// livesOfDatabase bounds how often the process is killed over one database, for the same reason.
const livesOfDatabase = 20

// TestKilledAtRandomOnMongoDB is TestKilledAtRandom on MongoDB. The server lives on, so it is
// the acknowledgements and the retries that it puts to the test.
func TestKilledAtRandomOnMongoDB(t *testing.T) {
	for left := *mongoLives; left > 0 && !t.Failed(); left -= livesOfDatabase {
		killAtRandom(t, newDatabase(t), mongoScale, min(left, livesOfDatabase))
	}
}
