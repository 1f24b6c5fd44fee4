package command_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/rookery-im/rookery/command"
)

// TestDocs keeps docs/rest.md what the table says.
func TestDocs(t *testing.T) {
	const file = "../docs/rest.md"
	got := newWorld(t, command.Config{}).table.Markdown()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what the table says: go test ./command -run TestDocs -update", file)
	}
}

func TestOpenAPI(t *testing.T) {
	table := newWorld(t, command.Config{}).table
	raw, err := table.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		OpenAPI  string
		Servers  []struct{ URL string }
		Security []map[string][]string
		Paths    map[string]struct {
			Post struct {
				OperationID string
				RequestBody struct {
					Content map[string]struct {
						Schema struct {
							Properties map[string]any
							Required   []string
						}
					}
				}
				Responses map[string]any
			}
		}
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	n := 0
	ids := map[string]bool{}
	for c := range table.Commands() {
		n++
		op := doc.Paths["/v4/"+c.Path()].Post
		if op.OperationID == "" || ids[op.OperationID] || op.Responses["200"] == nil || c.Doc == "" {
			t.Errorf("%s: operation %+v", c.Path(), op)
		}
		ids[op.OperationID] = true
	}
	if n < 60 || doc.OpenAPI != "3.1.0" {
		t.Errorf("OpenAPI %q with %d commands", doc.OpenAPI, n)
	}
	if len(doc.Servers) != 1 || doc.Servers[0].URL != "/" || len(doc.Security) != 1 || doc.Security[0]["usersig"] == nil {
		t.Errorf("servers %v, security %v", doc.Servers, doc.Security)
	}
	mute := doc.Paths["/v4/group_open_http_svc/forbid_send_msg"].Post.RequestBody.Content["application/json"].Schema
	if mute.Properties["MuteTime"] == nil || strings.Join(mute.Required, " ") != "GroupId Members_Account MuteTime" {
		t.Errorf("forbid_send_msg: %+v", mute)
	}
	if page := string(table.HTML()); !strings.Contains(page, "POST /v4/openim/querystate") || !strings.Contains(page, "<code>MsgList[].SendTime</code>") ||
		!strings.Contains(page, "usersig=…") || !strings.Contains(page, "<h2>Records</h2>") {
		t.Error("the page lacks what it should have")
	}
}
