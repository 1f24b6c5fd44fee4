package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/usersig"
)

// call serves POST /v4/{service}/{command}.
func (s *Server) call(c *gin.Context) {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(c.Request.Context(), s.cfg.Timeout, errTimeout)
	defer cancel()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		s.refuse(c, command.CodeTooManyRequests, "too many calls are under way, try again")
		return
	}
	call, refusal := s.authenticate(ctx, c.Request)
	if refusal != nil {
		s.refuse(c, refusal.Code, refusal.Info)
		return
	}
	service, name := c.Param("service"), c.Param("command")
	if cmd := s.back.Table.Find(service, name); cmd != nil {
		ok, over := s.rates.allow(call.Caller, cmd.Path(), time.Now())
		if over > 0 && s.back.OverLimit != nil {
			s.back.OverLimit(call, cmd, over, s.cfg.RatePerCommand)
		}
		if !ok {
			s.refuse(c, command.CodeRateOfCommand, "this command is called too often")
			return
		}
	}
	// A body that trickles in must not keep its slot longer than a call may take, nor longer than
	// the server reads for any request.
	if deadline, ok := ctx.Deadline(); ok {
		if read := began.Add(s.cfg.ReadTimeout); read.Before(deadline) {
			deadline = read
		}
		_ = http.NewResponseController(c.Writer).SetReadDeadline(deadline)
	}
	large := c.Request.ContentLength > s.cfg.BodySize
	var body []byte
	if !large {
		var err error
		if body, err = io.ReadAll(io.LimitReader(c.Request.Body, s.cfg.BodySize+1)); err != nil {
			s.refuse(c, command.CodeBadBody, "the body could not be read")
			return
		}
		large = int64(len(body)) > s.cfg.BodySize
	}
	if large {
		s.refuse(c, group.CodeJSONTooLong, fmt.Sprintf("the body has more than %d bytes", s.cfg.BodySize))
		return
	}
	answer(c, s.back.Table.Call(ctx, call, service, name, body))
}

// maxUnread bounds what is read of a body that nobody wants.
const maxUnread = 64 << 20

// readRest reads what a call has left of the body before its answer is sent: most clients look
// for an answer only after they have sent everything, and would see the connection break. One
// that waits to be asked for the body is not asked.
func readRest(c *gin.Context) {
	c.Next()
	if c.Request.Header.Get("Expect") == "" || c.Request.ContentLength < 0 {
		_, _ = io.CopyN(io.Discard, c.Request.Body, maxUnread) // whatever comes of it, there is an answer
	}
}

var errTimeout = errors.New("admin: the call took too long")

// authenticate checks the query parameters of a call.
func (s *Server) authenticate(ctx context.Context, r *http.Request) (*command.Call, *group.Error) {
	ip := remoteIP(r)
	if len(s.allowed) > 0 && !slices.ContainsFunc(s.allowed, func(n *net.IPNet) bool { return n.Contains(ip) }) {
		return nil, group.Errorf(command.CodeIPRefused, "this address may not call the API")
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, group.Errorf(command.CodeBadURL, "the query could not be parsed")
	}
	if q.Get("sdkappid") == "" {
		return nil, group.Errorf(command.CodeNoSDKAppID, "sdkappid is missing")
	}
	app, err := strconv.ParseInt(q.Get("sdkappid"), 10, 64)
	if err != nil || app != s.cfg.SDKAppID {
		return nil, group.Errorf(command.CodeBadSDKAppID, "sdkappid is not this app's")
	}
	identifier := q.Get("identifier")
	if identifier == "" {
		return nil, group.Errorf(command.CodeBadCaller, "identifier is missing")
	}
	claims, err := s.sigs.Verify(usersig.Request{SDKAppID: app, Identifier: identifier, UserSig: q.Get("usersig")}, time.Now())
	if err != nil {
		if e, ok := errors.AsType[*usersig.Error](err); ok {
			return nil, &group.Error{Code: e.Code, Info: e.Info}
		}
		return nil, group.Errorf(usersig.CodeMalformed, "the UserSig could not be checked")
	}
	caller := group.Account(identifier)
	if s.back.Revoked != nil {
		since, err := s.back.Revoked(ctx, caller)
		switch {
		case err != nil:
			s.back.Log.Error("account could not be read", "account", identifier, "err", err)
			return nil, group.Errorf(command.CodeTimeout, "the account could not be read, try again")
		case claims.IssuedAt.Unix() < since:
			return nil, group.Errorf(usersig.CodeExpired, "the account was kicked after this UserSig was made")
		}
	}
	if !s.back.Table.IsAdmin(caller) {
		return nil, group.Errorf(command.CodeNotAdmin, "the caller must be an app admin")
	}
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	return &command.Call{Caller: caller, Admin: true, IP: ip.String(), Platform: "RESTAPI", BaseURL: scheme + r.Host}, nil
}

func remoteIP(r *http.Request) net.IP {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return net.ParseIP(host)
}

// networks reads addresses and prefixes.
func networks(list []string) ([]*net.IPNet, error) {
	var out []*net.IPNet
	for _, s := range list {
		prefix := s
		if !strings.Contains(s, "/") {
			prefix += "/128"
			if ip := net.ParseIP(s); ip != nil && ip.To4() != nil {
				prefix = s + "/32"
			}
		}
		_, n, err := net.ParseCIDR(prefix)
		if err != nil {
			return nil, fmt.Errorf("admin: allowed address %q is no address and no prefix", s)
		}
		out = append(out, n)
	}
	return out, nil
}

// answer writes a JSON answer with what browsers need.
func answer(c *gin.Context, body []byte) {
	cors(c)
	c.Data(http.StatusOK, "application/json", body)
}

func (s *Server) refuse(c *gin.Context, code int, info string) {
	s.metrics.refused.Inc()
	answer(c, command.Failure(code, info))
}

func cors(c *gin.Context) {
	h := c.Writer.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "POST")
	h.Set("Access-Control-Allow-Headers", "X-Requested-With, Content-Type")
}

func preflight(c *gin.Context) {
	cors(c)
	c.Status(http.StatusNoContent)
}

// noRoute answers what is no resource: in JSON below /v4/, since clients parse that.
func (s *Server) noRoute(c *gin.Context) {
	if c.Request.Method == http.MethodPost {
		// A base address that ends in a slash makes //v4/ of /v4/ in many SDKs.
		if parts := strings.FieldsFunc(c.Request.URL.Path, func(r rune) bool { return r == '/' }); len(parts) == 3 && parts[0] == "v4" {
			c.AddParam("service", parts[1])
			c.AddParam("command", parts[2])
			s.call(c)
			return
		}
	}
	if !strings.HasPrefix(c.Request.URL.Path, "/v4/") {
		c.String(http.StatusNotFound, "not found\n")
		return
	}
	info := "no such resource"
	if c.Request.Method != http.MethodPost {
		info = "commands are called by POST"
	}
	s.refuse(c, command.CodeNoResource, info)
}

// recovered answers a call in which we panicked.
func (s *Server) recovered(c *gin.Context, problem any) {
	s.metrics.panics.Inc()
	s.back.Log.Error("panic in a call", "command", c.Param("service")+"/"+c.Param("command"), "err", fmt.Sprint(problem), "stack", string(debug.Stack()))
	answer(c, command.Failure(group.CodeInternal, "internal error"))
	c.Abort()
}
