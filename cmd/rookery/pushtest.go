package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rookery-im/rookery/configs"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/push/dispatch"
	"github.com/rookery-im/rookery/usersig"
)

func newPush() *cobra.Command {
	cmd := &cobra.Command{Use: "push", Short: "Find out about offline push"}
	cmd.AddCommand(newPushTest())
	return cmd
}

func newPushTest() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test --user ID",
		Short: "Say step by step what would become of a push to a user, and send it if asked to",
		Long: "Asks the running server, over its REST API and as its first administrator, what would become\n" +
			"of a message to the user: which rules hold, which devices would get it, the exact call to each\n" +
			"vendor, and with --send what the vendor answers.",
		Args: cobra.NoArgs,
	}
	flags := newConfigFlags(cmd.Flags(), dataDirFlag)
	var t pushTrial
	cmd.Flags().StringVar(&t.user, "user", "", "UserID")
	cmd.Flags().StringVar(&t.group, "group", "", "group that the message is sent to; without one, membership and receive option are not looked at")
	cmd.Flags().StringVar(&t.text, "text", "", "text of the message")
	cmd.Flags().StringVar(&t.info, "info", "", "OfflinePushInfo of the message, a JSON object")
	cmd.Flags().BoolVar(&t.send, "send", false, "send it to the devices that would get it")
	cmd.Flags().StringVar(&t.url, "url", "", urlUsage)
	cmd.Flags().StringVar(&t.url, "server", "", "the former name of --url")
	_ = cmd.Flags().MarkHidden("server") // it fails for a flag that does not exist
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := flags.load()
		if err != nil {
			return err
		}
		report, err := t.ask(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		return printReport(cmd.OutOrStdout(), report)
	}
	return cmd
}

type pushTrial struct {
	user, group, text, info, url string
	send                         bool
}

// pushTestTimeout covers a vendor that is slow to answer.
const pushTestTimeout = time.Minute

// ask has the running server explain the trial.
func (t *pushTrial) ask(ctx context.Context, cfg *configs.Config) (*dispatch.Report, error) {
	if !group.Account(t.user).Valid() {
		return nil, fmt.Errorf("--user: %q is not a UserID: 1 to %d printable ASCII characters", t.user, group.MaxAccountLen)
	}
	if len(cfg.App.Admins) == 0 {
		return nil, errors.New("app.admins: is empty, so that nobody may ask")
	}
	request := map[string]any{"To_Account": t.user, "GroupId": t.group, "Text": t.text}
	if t.info != "" {
		if !json.Valid([]byte(t.info)) {
			return nil, errors.New("--info: is not JSON")
		}
		request["OfflinePushInfo"] = json.RawMessage(t.info)
	}
	if t.send {
		request["Send"] = 1
	}
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	secret, err := serverSecret(cfg.App)
	if err != nil {
		return nil, err
	}
	admin := cfg.App.Admins[0]
	sig, err := usersig.Generate(usersig.App{ID: cfg.App.SDKAppID, Secret: secret.Reveal()}, admin, time.Now(), time.Hour, nil)
	if err != nil {
		return nil, err
	}
	query := url.Values{
		"sdkappid": {strconv.FormatInt(cfg.App.SDKAppID, 10)}, "identifier": {admin}, "usersig": {sig},
		"random": {strconv.FormatUint(uint64(rand.Uint32()), 10)}, "contenttype": {"json"},
	}
	base := t.url
	if base == "" {
		base = serverURL(cfg)
	}
	ctx, cancel := context.WithTimeout(ctx, pushTestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(base, "/")+"/v4/openim/push_test?"+query.Encode(), bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("--url: is not a URL")
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the URL, which holds the UserSig
		}
		return nil, fmt.Errorf("ask %s: %w (is the server running?)", base, err)
	}
	defer resp.Body.Close()
	var answer struct {
		ErrorCode int
		ErrorInfo string
		Report    *dispatch.Report
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 4<<20)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("ask %s: the answer is not that of a rookery server: HTTP %d", base, resp.StatusCode)
	}
	if answer.ErrorCode != 0 || answer.Report == nil {
		return nil, fmt.Errorf("the server answered %d %s", answer.ErrorCode, answer.ErrorInfo)
	}
	return answer.Report, nil
}

// serverURL is where a server with this configuration listens, as seen from the same machine.
func serverURL(cfg *configs.Config) string {
	scheme, addr := "http", cfg.HTTP.Addr
	if addr == "" {
		scheme, addr = "https", cfg.HTTP.TLSAddr
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return scheme + "://" + addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// printReport writes a report for a reader.
func printReport(out io.Writer, r *dispatch.Report) error {
	var b strings.Builder
	steps := func(indent string, list []dispatch.Step) {
		for _, s := range list {
			mark := "yes"
			if !s.OK {
				mark = "NO "
			}
			fmt.Fprintf(&b, "%s%s  %s", indent, mark, s.What)
			if s.Info != "" {
				fmt.Fprintf(&b, " (%s)", s.Info)
			}
			b.WriteByte('\n')
		}
	}
	steps("", r.Steps)
	for _, d := range r.Devices {
		fmt.Fprintf(&b, "\ndevice %s, provider app %s (%s), token %s…\n", d.Device, d.App, d.Vendor, d.Fingerprint)
		steps("  ", d.Steps)
		if p := d.Request; p != nil {
			fmt.Fprintf(&b, "  the call to the vendor:\n    %s %s\n", p.Method, p.URL)
			for _, h := range p.Header {
				fmt.Fprintf(&b, "    %s\n", h)
			}
			for line := range strings.Lines(p.Body) {
				fmt.Fprintf(&b, "    %s\n", strings.TrimRight(line, "\n"))
			}
		}
		switch a := d.Answer; {
		case a != nil:
			text := strings.TrimSpace(fmt.Sprintf("%s %s %s", a.Outcome, a.Code, a.Info)) // not all have a code
			fmt.Fprintf(&b, "  the vendor answered after %d ms: %s\n", a.Millis, text)
		case d.Eligible:
			b.WriteString("  it would be sent (--send sends it)\n")
		default:
			b.WriteString("  it would NOT be sent\n")
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}
