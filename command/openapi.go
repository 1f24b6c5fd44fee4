package command

import (
	"encoding/json"
	"fmt"
	"html"
	"maps"
	"slices"
	"strings"

	"github.com/rookery-im/rookery/wire"
)

// schema returns the JSON Schema of a value.
func schema(t wire.TypeDoc) map[string]any {
	s := map[string]any{}
	if t.JSON != "" {
		s["type"] = t.JSON
	}
	if t.Format != "" {
		s["format"] = t.Format
	}
	switch {
	case t.JSON == "array" && t.Elem != nil:
		s["items"] = schema(*t.Elem)
	case t.JSON == "object" && t.Elem != nil:
		s["additionalProperties"] = schema(*t.Elem)
	case t.JSON == "object" && len(t.Fields) > 0:
		maps.Copy(s, objectSchema(t.Fields))
	}
	return s
}

func objectSchema(fields []wire.FieldDoc) map[string]any {
	properties := map[string]any{}
	var required []string
	for _, f := range fields {
		s := schema(f.Type)
		if text := fieldText(f); text != "" {
			s["description"] = text
		}
		properties[f.Name] = s
		for _, name := range f.Also {
			also := schema(f.Type)
			also["description"] = "The same as " + f.Name + "."
			properties[name] = also
		}
		if f.Required {
			required = append(required, f.Name)
		}
	}
	s := map[string]any{"type": "object", "properties": properties}
	if required != nil {
		s["required"] = required
	}
	return s
}

// fieldText is a field's documentation in a line.
func fieldText(f wire.FieldDoc) string {
	text := f.Doc
	if len(f.Aliases) > 0 {
		text = strings.TrimSpace(text + " Also read as " + strings.Join(f.Aliases, ", ") + ".")
	}
	return text
}

var envelopeFields = []wire.FieldDoc{
	{Name: "ActionStatus", Doc: "OK or FAIL.", Type: wire.TypeDoc{JSON: "string"}},
	{Name: "ErrorCode", Doc: "0: success.", Type: wire.TypeDoc{JSON: "integer", Format: "int32"}},
	{Name: "ErrorInfo", Doc: "Why it failed.", Type: wire.TypeDoc{JSON: "string"}},
}

// responseFields are the members of the command's answer.
func (c *Command) responseFields() []wire.FieldDoc {
	fields := slices.Clone(envelopeFields)
	if c.ErrorDisplay {
		fields = append(fields, wire.FieldDoc{Name: "ErrorDisplay", Type: wire.TypeDoc{JSON: "string"}})
	}
	return append(fields, wire.Fields(c.Response)...)
}

// audienceText says who may call the command.
func (c *Command) audienceText() string {
	switch c.Audience {
	case Everyone:
		return "App admins; users within their authority."
	case Users:
		return "Users, about themselves."
	}
	return "App admins."
}

// paths are all paths of the command below /v4/.
func (c *Command) paths() []string {
	var out []string
	for _, service := range append([]string{c.Service}, c.ServiceAliases...) {
		for _, name := range append([]string{c.Name}, c.Aliases...) {
			out = append(out, service+"/"+name)
		}
	}
	return out
}

// OpenAPI returns the OpenAPI 3.1 document of the REST API. It is made from the same types that
// decode requests and encode answers.
func (t *Table) OpenAPI() ([]byte, error) {
	var parameters []any
	for _, p := range []struct{ name, typ, text string }{
		{"sdkappid", "integer", "The app's number."},
		{"identifier", "string", "The calling app admin."},
		{"random", "integer", "Anything; makes addresses unique."},
		{"contenttype", "string", "json"},
	} {
		parameters = append(parameters, map[string]any{
			"name": p.name, "in": "query", "required": p.name != "random" && p.name != "contenttype", "description": p.text,
			"schema": map[string]any{"type": p.typ},
		})
	}
	paths := map[string]any{}
	for c := range t.Commands() {
		for i, path := range c.paths() {
			operation := map[string]any{
				"operationId": strings.ReplaceAll(path, "/", "_"), "summary": c.Doc, "description": c.audienceText(), "tags": []string{c.Service},
				"parameters": parameters,
				"requestBody": map[string]any{"required": true, "content": map[string]any{
					"application/json": map[string]any{"schema": objectSchema(wire.Fields(c.Request))},
				}},
				"responses": map[string]any{"200": map[string]any{
					"description": "The answer, of a failure too.",
					"content":     map[string]any{"application/json": map[string]any{"schema": objectSchema(c.responseFields())}},
				}},
			}
			if i > 0 {
				operation["description"] = "Another name of " + c.Path() + "."
			}
			paths["/v4/"+path] = map[string]any{"post": operation}
		}
	}
	return json.MarshalIndent(map[string]any{
		"openapi":  "3.1.0",
		"info":     map[string]any{"title": "Rookery REST API", "version": "4", "description": "Compatible with the REST API of Tencent IM."},
		"servers":  []any{map[string]any{"url": "/", "description": "The server that this document comes from."}},
		"security": []any{map[string]any{"usersig": []string{}}},
		"paths":    paths,
		"components": map[string]any{"securitySchemes": map[string]any{
			"usersig": map[string]any{"type": "apiKey", "in": "query", "name": "usersig", "description": "The UserSig of the app admin in identifier."},
		}, "schemas": map[string]any{
			"GroupRecord": objectSchema(wire.Fields(groupRecordType)), "MemberRecord": objectSchema(wire.Fields(memberRecordType)),
			"Message": objectSchema(wire.Fields(historyMessageType)),
		}},
	}, "", " ")
}

// Markdown returns the reference of all commands.
func (t *Table) Markdown() string {
	var b strings.Builder
	b.WriteString(restIntro)
	service := ""
	for c := range t.Commands() {
		if c.Service != service {
			service = c.Service
			fmt.Fprintf(&b, "\n## %s\n", service)
		}
		fmt.Fprintf(&b, "\n### %s\n\n%s %s", c.Name, c.Doc, c.audienceText())
		if paths := c.paths(); len(paths) > 1 {
			fmt.Fprintf(&b, " Also `%s`.", strings.Join(paths[1:], "`, `"))
		}
		b.WriteString("\n")
		writeFields(&b, "Request", wire.Fields(c.Request))
		writeFields(&b, "Answer", wire.Fields(c.Response))
	}
	b.WriteString("\n## Records\n\n" + recordsIntro + "\n")
	for _, r := range records() {
		writeFields(&b, r.title, r.fields)
	}
	return b.String()
}

// A record is what several commands answer with.
type record struct {
	title  string
	fields []wire.FieldDoc
}

func records() []record {
	return []record{{"Group", wire.Fields(groupRecordType)}, {"Member", wire.Fields(memberRecordType)}}
}

const recordsIntro = "What commands tell of a group or a member: all of these fields, or those that the request's filters name."

const restIntro = `# REST API

<!-- Made from the command table: go test ./command -run TestDocs -update -->

` + "`POST /v4/{service}/{command}?sdkappid=…&identifier=…&usersig=…&random=…&contenttype=json`" + ` with a JSON object as the body, compatible with
Tencent IM. ` + "`identifier`" + ` is an app admin (` + "`app.admins`" + `), ` + "`usersig`" + ` its UserSig (` + "`rookery usersig`" + `). Every answer is HTTP 200 and carries
` + "`ActionStatus`" + ` (OK or FAIL), ` + "`ErrorCode`" + ` (0 or a number of Tencent IM) and ` + "`ErrorInfo`" + `. Names of both generations are read and written;
null, "", 0 and [] in a member that is not required mean that it is not given. The same document for machines is at ` + "`/openapi.json`" + `.

Commands that users may call are requests over MQTT, too: publish the body to ` + "`rpc/{command}`" + `.

` + "`rest.admins`" + ` bounds an admin to some commands; others are answered with 60017. ` + "`rookery export --group ID --out FILE`" + ` and
` + "`rookery import --group ID FILE`" + ` carry a group's messages out of and into a running server, by these commands; stopped, both go on where they were.
`

// writeFields writes a table of members, those of inner objects indented by their path.
func writeFields(b *strings.Builder, title string, fields []wire.FieldDoc) {
	if len(fields) == 0 {
		return
	}
	fmt.Fprintf(b, "\n| %s | type | |\n|---|---|---|\n", title)
	writeRows(b, "", fields, title == "Request")
}

// writeRows writes a row for each member; in a request those that must be there are marked.
func writeRows(b *strings.Builder, prefix string, fields []wire.FieldDoc, required bool) {
	for _, f := range fields {
		typ := f.Type
		kind, path := typ.JSON, prefix+f.Name
		for typ.JSON == "array" && typ.Elem != nil {
			typ = *typ.Elem
			path += "[]"
			if typ.JSON != "" {
				kind = "array of " + typ.JSON
			}
		}
		text := fieldText(f)
		if f.Required && required {
			text = strings.TrimSpace("**Required.** " + text)
		}
		if len(f.Also) > 0 {
			text = strings.TrimSpace(text + " Repeated as " + strings.Join(f.Also, ", ") + ".")
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", prefix+f.Name, kind, strings.ReplaceAll(text, "|", `\|`))
		if !typ.Recursive {
			writeRows(b, path+".", typ.Fields, required)
		}
	}
}

// HTML returns a page to browse the reference with.
func (t *Table) HTML() []byte {
	var b strings.Builder
	b.WriteString(`<!doctype html><html lang="en"><meta charset="utf-8"><title>Rookery REST API</title><style>
body{font:15px/1.5 system-ui;max-width:70em;margin:2em auto;padding:0 1em}summary{cursor:pointer;padding:.2em 0}code{font-family:ui-monospace,monospace}
table{border-collapse:collapse;margin:.5em 0}td,th{border:1px solid #ccc;padding:.15em .6em;text-align:left;vertical-align:top}</style>
<h1>Rookery REST API</h1><p><code>POST /v4/{service}/{command}?sdkappid=…&amp;identifier=…&amp;usersig=…&amp;random=…&amp;contenttype=json</code> with a JSON
object as the body. <code>identifier</code> is an app admin, <code>usersig</code> its UserSig (<code>rookery usersig --user administrator</code>). Every answer is
HTTP 200; <code>ErrorCode</code> says whether it worked. For machines: <a href="/openapi.json">openapi.json</a></p>`)
	service := ""
	for c := range t.Commands() {
		if c.Service != service {
			service = c.Service
			fmt.Fprintf(&b, "<h2>%s</h2>", html.EscapeString(service))
		}
		fmt.Fprintf(&b, "<details id=\"%s\"><summary><code>%s</code> %s</summary><p>%s", html.EscapeString(c.Path()), html.EscapeString(c.Name), html.EscapeString(c.Doc), html.EscapeString(c.audienceText()))
		for _, path := range c.paths() {
			fmt.Fprintf(&b, "<br><code>POST /v4/%s</code>", html.EscapeString(path))
		}
		b.WriteString("</p>")
		htmlFields(&b, "Request", wire.Fields(c.Request))
		htmlFields(&b, "Answer", c.responseFields())
		b.WriteString("</details>")
	}
	fmt.Fprintf(&b, "<h2>Records</h2><p>%s</p>", html.EscapeString(recordsIntro))
	for _, r := range records() {
		htmlFields(&b, r.title, r.fields)
	}
	b.WriteString("</html>\n")
	return []byte(b.String())
}

func htmlFields(b *strings.Builder, title string, fields []wire.FieldDoc) {
	var rows strings.Builder
	writeRows(&rows, "", fields, title == "Request")
	fmt.Fprintf(b, "<table><tr><th>%s<th>type<th>", title)
	for row := range strings.Lines(rows.String()) {
		cells := strings.SplitN(strings.Trim(strings.TrimSpace(row), "|"), "|", 3)
		fmt.Fprintf(b, "<tr><td><code>%s</code><td>%s<td>%s", html.EscapeString(strings.Trim(cells[0], " `")), html.EscapeString(strings.TrimSpace(cells[1])),
			html.EscapeString(strings.ReplaceAll(strings.TrimSpace(cells[2]), "**", "")))
	}
	b.WriteString("</table>")
}
