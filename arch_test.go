package rookery_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/rookery-im/rookery"

// A room is a folder of ours and the other folders of ours that it may import. A folder
// belongs to the room with the longest name that contains it, and may import its own room.
type room struct {
	mayImport []string
	// because says why it may import no others.
	because string
}

// rooms is the table of docs/ARCHITECTURE.md as code. It may name folders that do not exist
// yet; a folder that it does not name fails the test.
var rooms = map[string]room{
	"group":               {nil, "the domain is rules without I/O, and everything else imports it"},
	"usersig":             {nil, "a leaf: broker, admin and the command line need it and must not need one another"},
	"wire":                {nil, "a leaf: both doors and the client need it and must not need one another"},
	"configs":             {nil, "the configuration is plain data: the rooms are told their part of it by cmd"},
	"storage":             {[]string{"group"}, "a store keeps what it is given: it knows neither who sends nor who listens"},
	"storage/pebble":      {[]string{"storage", "group"}, "a store keeps what it is given: it knows neither who sends nor who listens"},
	"storage/mongo":       {[]string{"storage", "group"}, "a store keeps what it is given: it knows neither who sends nor who listens"},
	"storage/storagetest": {[]string{"storage", "group"}, "the suite is the contract: it must not lean on one of the stores that it judges"},
	"hooks":               {[]string{"group", "storage"}, "the pipeline knows neither MQTT nor HTTP: both doors lead into it, and data only moves rightward"},
	"command":             {[]string{"group", "hooks", "storage", "usersig", "wire"}, "a command is written once, for doors that it does not know"},
	"broker":              {[]string{"group", "hooks", "command", "storage", "usersig", "wire"}, "the MQTT door does not know the REST door, the push vendors or which store runs"},
	"admin":               {[]string{"group", "command", "usersig", "wire"}, "the REST door reaches everything through the command table, as the MQTT door does"},
	"push":                {[]string{"group", "storage"}, "push works from its queue in the store, and is told by a small interface who is online"},
	"client":              {[]string{"group", "usersig", "wire"}, "the SDK speaks to the server over the network alone"},
	"examples":            {[]string{"client", "group", "usersig"}, "an example shows what a program of somebody else can do"},
	"internal":            {everything, "test harnesses: nothing of the product imports them"},
	"cmd":                 {everything, ""},
}

// everything stands for all rooms.
var everything = []string{"*"}

// bans keeps modules of others out of rooms, however they come in.
var bans = []struct {
	rooms   []string
	pattern string // an import path and all below it, or third to mean every module but ours
	except  string // an import path that is allowed, with all below it
	because string
}{
	{[]string{"group", "usersig"}, third, "", "what everything imports must cost nobody a dependency"},
	{[]string{"configs"}, third, "gopkg.in/yaml.v3", "its types are plain data; only the loader needs a parser"},
	{[]string{"storage", "hooks", "command", "push", "admin", "client"}, "github.com/mochi-mqtt", "", "the MQTT server is the broker's affair"},
	{[]string{"storage", "hooks", "command", "push", "broker", "client"}, "github.com/gin-gonic", "", "the HTTP framework is the admin's affair"},
	{[]string{"hooks", "command", "broker", "admin", "push", "client", "storage/mongo"}, "github.com/cockroachdb", "", "which store runs is decided in cmd"},
	// Not for admin: Gin itself is built from the driver's BSON codec.
	{[]string{"hooks", "command", "broker", "push", "client", "storage/pebble"}, "go.mongodb.org", "", "which store runs is decided in cmd"},
	{[]string{"cmd"}, "github.com/FerretDB", "", "it is the test server of storage/mongo, from a module of its own"},
}

const third = "*"

// A listed is what go list says of a package.
type listed struct {
	ImportPath string
	Dir        string
	Standard   bool
	Imports    []string
	Deps       []string
	GoFiles    []string
	CgoFiles   []string
}

// list returns the packages of this module and all that they are built from. Tests are not
// part of a build, and their imports are free.
func list(t *testing.T) map[string]listed {
	t.Helper()
	// go test takes a result from its cache while the files and folders that the test itself
	// has opened are the same. What go list opens it does not see; so open every folder here.
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if entry.IsDir() && (name == ".git" || name == "bin" || name == "data") {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Dir,Standard,Imports,Deps,GoFiles,CgoFiles", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, &stderr)
	}
	packages := make(map[string]listed)
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
	}
}

func TestImportArrows(t *testing.T) {
	packages := list(t)
	for _, violation := range violations(packages) {
		t.Error(violation)
	}
	if _, ok := packages[module+"/group"]; !ok {
		t.Error("go list knows no package group: the test looks at nothing")
	}
}

// violations returns a sentence for each import that rooms or bans forbid.
func violations(packages map[string]listed) []string {
	var found []string
	report := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	for _, importPath := range slices.Sorted(maps.Keys(packages)) {
		folder, ours := folderOf(importPath)
		if !ours || folder == "." { // the root holds this test alone
			continue
		}
		from, ok := roomOf(folder)
		if !ok {
			report("%s is in no room: name it, its arrows and its reason here and in docs/ARCHITECTURE.md", folder)
			continue
		}
		for _, imported := range packages[importPath].Imports {
			target, ours := folderOf(imported)
			to, ok := roomOf(target)
			if ours && ok && to != from && !allows(rooms[from], to) {
				report("%s imports %s, but %s: %s", folder, target, mayImport(from), rooms[from].because)
			}
		}
		for _, ban := range bans {
			if !slices.ContainsFunc(ban.rooms, func(r string) bool { return within(from, r) }) {
				continue
			}
			for _, dep := range packages[importPath].Deps {
				if banned(ban.pattern, packages[dep]) && (ban.except == "" || !within(dep, ban.except)) {
					report("%s is built from %s: %s", folder, dep, ban.because)
				}
			}
		}
	}
	return found
}

func mayImport(name string) string {
	if len(rooms[name].mayImport) == 0 {
		return name + " may import nothing of ours"
	}
	return name + " may import only " + strings.Join(rooms[name].mayImport, ", ") + " of ours"
}

func allows(r room, name string) bool {
	return slices.Equal(r.mayImport, everything) || slices.Contains(r.mayImport, name)
}

func banned(pattern string, p listed) bool {
	if pattern != third {
		return within(p.ImportPath, pattern)
	}
	_, ours := folderOf(p.ImportPath)
	return !p.Standard && !ours
}

// roomOf returns the name of the room that folder belongs to.
func roomOf(folder string) (name string, ok bool) {
	for name = folder; name != "."; name = path.Dir(name) {
		if _, ok := rooms[name]; ok {
			return name, true
		}
	}
	return "", false
}

// folderOf returns the folder of one of our packages.
func folderOf(importPath string) (folder string, ours bool) {
	if importPath == module {
		return ".", true
	}
	folder, ours = strings.CutPrefix(importPath, module+"/")
	return folder, ours
}

// within reports whether name is parent or below it.
func within(name, parent string) bool {
	return name == parent || strings.HasPrefix(name, parent+"/")
}

// TestViolationsAreFound plants one forbidden import at a time.
func TestViolationsAreFound(t *testing.T) {
	tests := []struct {
		importer, imported string
		forbidden          bool
	}{
		{"group", "storage", true},
		{"group", "usersig", true},
		{"configs", "group", true},
		{"storage", "storage/pebble", true},
		{"storage/pebble", "storage/mongo", true},
		{"storage/storagetest", "storage/pebble", true},
		{"hooks", "broker", true},
		{"hooks/inner", "command", true},
		{"command", "broker", true},
		{"broker", "admin", true},
		{"broker", "storage/pebble", true},
		{"admin", "storage", true},
		{"push", "broker", true},
		{"client", "command", true},
		{"nowhere", "group", true},
		{"group", "github.com/pkg/errors", true},
		{"usersig", "golang.org/x/crypto", true},
		{"configs", "github.com/spf13/cobra", true},
		{"hooks", "github.com/mochi-mqtt/server/v2", true},
		{"command", "github.com/gin-gonic/gin", true},
		{"broker", "github.com/cockroachdb/pebble/v2", true},
		{"storage/pebble", "go.mongodb.org/mongo-driver/v2/bson", true},
		{"cmd/rookery", "github.com/FerretDB/FerretDB/ferretdb", true},

		{"group", "strings", false},
		{"group/inner", "group", false},
		{"configs", "gopkg.in/yaml.v3/ast", false},
		{"storage/pebble", "storage", false},
		{"storage/pebble", "github.com/cockroachdb/pebble/v2", false},
		{"command", "wire", false},
		{"broker", "github.com/mochi-mqtt/server/v2", false},
		{"cmd/rookery", "storage/pebble", false},
	}
	full := func(name string) string {
		if _, ok := roomOf(name); ok || name == "nowhere" {
			return module + "/" + name
		}
		return name
	}
	for _, test := range tests {
		importer, imported := full(test.importer), full(test.imported)
		found := violations(map[string]listed{
			importer: {ImportPath: importer, Imports: []string{imported}, Deps: []string{imported}},
			imported: {ImportPath: imported, Standard: !strings.Contains(imported, ".")},
		})
		if (len(found) > 0) != test.forbidden {
			t.Errorf("%s imports %s: %q; want it forbidden: %v", test.importer, test.imported, found, test.forbidden)
		}
	}
}

func TestEveryPackageHasOnePackageComment(t *testing.T) {
	for importPath, p := range list(t) {
		folder, ours := folderOf(importPath)
		if !ours || len(p.GoFiles)+len(p.CgoFiles) == 0 { // only tests: nobody imports it
			continue
		}
		var commented []string
		for _, name := range slices.Concat(p.GoFiles, p.CgoFiles) {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if file.Doc == nil {
				continue
			}
			commented = append(commented, name)
			begin := "Package " + file.Name.Name + " "
			if file.Name.Name == "main" {
				begin = "Command " + path.Base(folder) + " "
			}
			if !strings.HasPrefix(file.Doc.Text(), begin) {
				t.Errorf("%s/%s: the package comment does not begin with %q", folder, name, begin)
			}
		}
		if len(commented) != 1 {
			t.Errorf("%s: %d files have a package comment (%q), want one: what it is for, what it guarantees, what it leaves to others", folder, len(commented), commented)
		}
	}
}
