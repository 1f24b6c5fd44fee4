package configs

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Validate reports everything that is wrong with c, joined, each an *Error.
func (c *Config) Validate() error { return joined(c.problems()) }

// A checker gathers what is wrong, key by key.
type checker struct{ problems []*Error }

func (ch *checker) refuse(key, format string, args ...any) {
	ch.problems = append(ch.problems, &Error{Key: key, Problem: fmt.Sprintf(format, args...)})
}

func (c *Config) problems() []*Error {
	ch := new(checker)
	schema().walk(reflect.ValueOf(c).Elem(), "", func(path string, n *node, v reflect.Value) {
		if err := checkBounds(n, v); err != nil {
			ch.refuse(path, "%v", err)
		}
	})
	c.checkAdmins(ch)
	c.checkRESTAdmins(ch)
	c.checkListeners(ch)
	c.checkStorage(ch)
	c.checkCallbacks(ch)
	c.checkPush(ch)
	if c.Log.Audit == "" {
		ch.refuse("log.audit", "is empty: write none for no audit log")
	}
	if c.App.DataDir == "" {
		ch.refuse("app.data_dir", "is empty")
	}
	return ch.problems
}

// maxAccountLen is the longest UserID, in bytes. (Package group is not ours to import.)
const maxAccountLen = 32

func (c *Config) checkAdmins(ch *checker) {
	for i, a := range c.App.Admins {
		switch {
		case a == "" || len(a) > maxAccountLen || strings.ContainsFunc(a, func(r rune) bool { return r < 0x20 || r > 0x7E }):
			ch.refuse("app.admins", "%q is not a UserID: 1 to %d printable ASCII characters", a, maxAccountLen)
		case slices.Contains(c.App.Admins[:i], a):
			ch.refuse("app.admins", "%q stands twice", a)
		}
	}
}

func (c *Config) checkRESTAdmins(ch *checker) {
	for i, a := range c.REST.Admins {
		key := item("rest.admins", i)
		switch {
		case !slices.Contains(c.App.Admins, a.User):
			ch.refuse(join(key, "user"), "%q is not one of app.admins", a.User)
		case slices.ContainsFunc(c.REST.Admins[:i], func(b RESTAdmin) bool { return b.User == a.User }):
			ch.refuse(join(key, "user"), "%q stands twice", a.User)
		}
	}
}

type listener struct {
	key, addr string
	tls       bool
}

func (c *Config) listeners() []listener {
	return []listener{
		{"mqtt.addr", c.MQTT.Addr, false},
		{"mqtt.tls_addr", c.MQTT.TLSAddr, true},
		{"ws.addr", c.WS.Addr, false},
		{"ws.tls_addr", c.WS.TLSAddr, true},
		{"http.addr", c.HTTP.Addr, false},
		{"http.tls_addr", c.HTTP.TLSAddr, true},
	}
}

func (c *Config) checkListeners(ch *checker) {
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		ch.refuse("tls.cert_file", "goes together with tls.key_file: set both or none")
	}
	if !strings.HasPrefix(c.WS.Path, "/") {
		ch.refuse("ws.path", "%q does not start with /", c.WS.Path)
	}
	taken := map[string]string{}
	for _, l := range c.listeners() {
		if l.addr == "" {
			continue
		}
		host, port, err := splitAddr(l.addr)
		if err != nil {
			ch.refuse(l.key, "%q is not an address like 127.0.0.1:1883: %v", l.addr, err)
			continue
		}
		if other := taken[l.addr]; other != "" && port != 0 {
			ch.refuse(l.key, "%s is also the address of %s", l.addr, other)
		}
		taken[l.addr] = l.key
		if l.tls && c.TLS.CertFile == "" {
			ch.refuse(l.key, "needs a certificate: set tls.cert_file and tls.key_file")
		}
		if c.App.Secret == "" && !isLoopback(host) {
			ch.refuse(l.key, "%s can be reached from other machines, which needs a configured secret: set app.secret or %s",
				l.addr, envName("app.secret"))
		}
	}
}

func splitAddr(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		if e, ok := errors.AsType[*net.AddrError](err); ok {
			err = errors.New(e.Err) // without the address, which the caller shows
		}
		return "", 0, err
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("port %q is not a number from 0 to 65535", text)
	}
	return host, port, nil
}

// isLoopback reports whether host is surely this machine alone. A name other than localhost
// may resolve to anything, and no host means every interface.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func (c *Config) checkStorage(ch *checker) {
	uri := c.Storage.Mongo.URI.Reveal()
	switch {
	case uri == "":
		if c.Storage.Driver == "mongo" {
			ch.refuse("storage.mongo.uri", "is empty, but storage.driver is mongo")
		}
	case !strings.HasPrefix(uri, "mongodb://") && !strings.HasPrefix(uri, "mongodb+srv://"):
		ch.refuse("storage.mongo.uri", "does not start with mongodb:// or mongodb+srv://")
	}
	if c.Storage.Driver == "mongo" && c.Storage.Mongo.Database == "" {
		ch.refuse("storage.mongo.database", "is empty")
	}
}

func (c *Config) checkPush(ch *checker) {
	if c.Push.ReceiptsURL == "" {
		return
	}
	u, err := url.Parse(c.Push.ReceiptsURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		ch.refuse("push.receipts_url", "is not an http:// or https:// URL without query and fragment")
	}
}

func (c *Config) checkCallbacks(ch *checker) {
	cb := &c.Callbacks
	if cb.URL != "" {
		u, err := url.Parse(cb.URL)
		switch {
		case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
			ch.refuse("callbacks.url", "is not an http:// or https:// URL")
		case u.Fragment != "":
			ch.refuse("callbacks.url", "has a fragment (#), which is never sent")
		}
	}
	for _, name := range cb.Commands { // a misspelt one would never be sent, and nobody asked before messages
		if !slices.Contains(callbackNames, name) && !slices.Contains(otherCallbackNames, name) {
			ch.refuse("callbacks.commands", "%q is no callback: docs/callbacks.md lists them", name)
		}
	}
	if (cb.CertFile == "") != (cb.KeyFile == "") {
		ch.refuse("callbacks.cert_file", "goes together with callbacks.key_file: set both or none")
	}
	if cb.ConcurrencyPerGroup > cb.Concurrency {
		ch.refuse("callbacks.concurrency_per_group", "%d is above callbacks.concurrency, %d", cb.ConcurrencyPerGroup, cb.Concurrency)
	}
	if cb.RetryPauseMin > cb.RetryPauseMax {
		ch.refuse("callbacks.retry_pause_min", "%v is above callbacks.retry_pause_max, %v", cb.RetryPauseMin, cb.RetryPauseMax)
	}
}
