package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
)

// Command makes "rookery bench" with a subcommand for every scenario.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Generate load for any MQTT broker and measure it",
		Long: `Generate load for any MQTT broker and measure it. docs/performance.md says what is counted, and how.

Rookery lets 40 messages a second into a group. To measure more than that, start the server with
ROOKERY_FLOW_MESSAGES_PER_SECOND=0, and tell the scenario by --rookery-http where to make its groups.`,
		Args: cobra.NoArgs,
	}
	c.AddCommand(
		newFanout(), newGroups(), newIngest(),
		newConnect(), newIdle(),
		newLogin(), newHistory(), newRest(), newStore(),
		newCompare(), newMochiServer(),
	)
	return c
}

// flags are what the command line says to every scenario.
type flags struct {
	Options
	version   string
	json, svg string
	warmup    time.Duration
}

// secretVariable names the environment variable that may hold Rookery's secret, so that it need not stand in a
// process list.
const secretVariable = "ROOKERY_APP_SECRET"

func (f *flags) bind(c *cobra.Command) {
	p := c.Flags()
	p.StringVarP(&f.Broker, "broker", "b", "127.0.0.1:1883", "host:port of the MQTT listener")
	p.StringVar(&f.Name, "name", "", "what the report calls the broker")
	p.StringVar(&f.version, "mqtt", "3.1.1", "protocol version: 3.1.1 or 5")
	p.IntVar(&f.PID, "pid", 0, "process whose CPU and memory are measured")
	p.StringVar(&f.Username, "username", "", "username of every connection (not with Rookery)")
	p.StringVar(&f.Password, "password", "", "password of every connection (not with Rookery)")
	p.StringVar(&f.Rookery.HTTP, "rookery-http", "", "host:port of Rookery's HTTP listener: makes accounts and groups first, and logs in with UserSigs")
	p.Int64Var(&f.Rookery.SDKAppID, "rookery-sdkappid", 1400000001, "Rookery's SDKAppID")
	p.StringVar(&f.Rookery.Admin, "rookery-admin", "administrator", "an administrator of Rookery")
	p.StringVar(&f.Rookery.DataDir, "rookery-data-dir", "", "Rookery's data folder, where the secret that it made lies; $"+secretVariable+" goes before it")
	p.StringVar(&f.Rookery.GroupType, "rookery-group-type", "", "type of the groups to be made (default: Public, or Community above 6,000 members)")
	p.DurationVarP(&f.Duration, "duration", "d", 10*time.Second, "length of the measured part")
	p.DurationVar(&f.warmup, "warmup", 2*time.Second, "length of the part before it")
	p.IntVar(&f.Parallel, "parallel", 100, "connections being opened at the same time")
	p.IntVar(&f.Threads, "threads", 0, "event loops (default: one for every two processors)")
	p.DurationVar(&f.KeepAlive, "keep-alive", 300*time.Second, "keep alive of every connection")
	p.IntVar(&f.ReceiveMaximum, "receive-maximum", 0, "Receive Maximum to announce with MQTT 5 (default: none)")
	p.DurationVar(&f.LostAfter, "lost-after", 5*time.Second, "how long a closed loop waits for a message")
	p.StringVar(&f.json, "json", "", "also write the result to this file as JSON")
	p.StringVar(&f.svg, "svg", "", "also draw the result into this file as SVG")
}

// run completes the options, runs a scenario and writes what it found.
func (f *flags) run(c *cobra.Command, scenario func(context.Context, Options) (*Result, error)) error {
	switch f.version {
	case "3.1.1", "4":
	case "5":
		f.MQTT5 = true
	default:
		return fmt.Errorf("--mqtt: %q is neither 3.1.1 nor 5", f.version)
	}
	f.Warmup = f.warmup
	if f.Warmup == 0 {
		f.Warmup = -1
	}
	f.Rookery.Secret = os.Getenv(secretVariable)
	f.Progress = progressOf(c.ErrOrStderr())
	res, err := scenario(c.Context(), f.Options)
	if f.Progress != nil {
		_, _ = fmt.Fprint(f.Progress, "\r\x1b[K")
	}
	if err != nil {
		return err
	}
	return errors.Join(
		res.WriteTable(c.OutOrStdout()),
		writeFile(f.json, res.WriteJSON),
		writeFile(f.svg, res.WriteSVG),
	)
}

// progressOf returns w if it is a terminal.
func progressOf(w io.Writer) io.Writer {
	if file, ok := w.(*os.File); ok && isatty.IsTerminal(file.Fd()) {
		return w
	}
	return nil
}

// writeFile writes a file, unless its name is empty.
func writeFile(name string, write func(io.Writer) error) (err error) {
	if name == "" {
		return nil
	}
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return write(file)
}

// scenarioCommand makes a subcommand with the flags that every scenario has.
func scenarioCommand(use, short string, scenario func(context.Context, Options) (*Result, error)) *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c, scenario) },
	}
	f.bind(c)
	return c
}

// newTraffic makes one of the three scenarios that send into groups.
func newTraffic(use, short string, t Traffic, bind func(c *cobra.Command, t *Traffic)) *cobra.Command {
	t.Scenario = use
	c := scenarioCommand(use, short, func(ctx context.Context, o Options) (*Result, error) { return RunTraffic(ctx, o, t) })
	p := c.Flags()
	p.IntVar(&t.Size, "size", t.Size, "bytes of the payload")
	p.IntVar(&t.Senders, "senders", t.Senders, "senders of each group")
	p.IntVar(&t.Outstanding, "outstanding", t.Outstanding, "messages that each sender keeps under way (closed loop)")
	p.IntVar(&t.MaxInFlight, "max-in-flight", 1024, "unacknowledged messages that an open-loop sender may have")
	bind(c, &t)
	return c
}

func bindQoS(c *cobra.Command, t *Traffic) {
	c.Flags().Uint8Var(&t.QoS, "qos", t.QoS, "QoS of publishing and of the subscriptions: 0 or 1")
}

func bindMembers(c *cobra.Command, t *Traffic) {
	bindQoS(c, t)
	p := c.Flags()
	p.IntVar(&t.Members, "members", t.Members, "subscribed members of each group")
	p.IntVar(&t.Stalled, "stalled", 0, "further members of each group that subscribe and never read")
	p.Float64Var(&t.Rate, "rate", t.Rate, "messages a second into each group, sent when due (open loop); 0: closed loop")
	p.StringVar(&t.Wait, "wait", WaitDelivery, "what the closed loop waits for: "+WaitDelivery+" (to every member), "+WaitOwn+" (the sender's own copy) or "+WaitAck+" (the sender's)")
}

func newFanout() *cobra.Command {
	t := Traffic{Groups: 1, Members: 1000, Senders: 1, Size: 200, Outstanding: 16}
	return newTraffic("fanout", "One group: every message goes to all its members", t, bindMembers)
}

func newGroups() *cobra.Command {
	t := Traffic{Groups: 50, Members: 20, Senders: 1, QoS: 1, Size: 200, Outstanding: 1, Rate: 40}
	return newTraffic("groups", "Many groups, each with its own members and rate", t, func(c *cobra.Command, t *Traffic) {
		bindMembers(c, t)
		c.Flags().IntVar(&t.Groups, "groups", t.Groups, "number of groups")
	})
}

func newIngest() *cobra.Command {
	t := Traffic{Groups: 1, Senders: 1, QoS: 1, Size: 200, Outstanding: 64, Wait: WaitAck}
	return newTraffic("ingest", "Senders that wait for acknowledgements; nobody reads", t, func(c *cobra.Command, t *Traffic) {
		p := c.Flags()
		p.IntVar(&t.Groups, "groups", t.Groups, "number of groups")
		p.Float64Var(&t.Rate, "rate", 0, "messages a second into each group, sent when due (open loop); 0: closed loop")
	})
}

func newConnect() *cobra.Command {
	k := Connect{Scenario: "connect", Connections: 5000}
	return connectCommand("connect", "Connect clients as fast as the broker lets them", &k, func(c *cobra.Command) {
		c.Flags().BoolVar(&k.Churn, "churn", false, "every client leaves as soon as it is connected")
	})
}

func newIdle() *cobra.Command {
	k := Connect{Scenario: "idle", Connections: 10_000, Hold: true, Settle: 5 * time.Second}
	return connectCommand("idle", "Hold idle connections: the memory that each costs", &k, func(c *cobra.Command) {
		c.Flags().DurationVar(&k.Settle, "settle", k.Settle, "pause before the measured part")
	})
}

func connectCommand(use, short string, k *Connect, bind func(*cobra.Command)) *cobra.Command {
	c := scenarioCommand(use, short, func(ctx context.Context, o Options) (*Result, error) { return RunConnect(ctx, o, *k) })
	c.Flags().IntVarP(&k.Connections, "connections", "n", k.Connections, "number of clients")
	c.Flags().StringVar(&k.Subscribe, "subscribe", "", "topic filter that every client subscribes to")
	bind(c)
	return c
}

func newLogin() *cobra.Command {
	k := Login{Users: 5000, Groups: 100, Members: 100, Messages: 1}
	c := scenarioCommand("login", "A login storm: many users connect and synchronise at once (Rookery only)",
		func(ctx context.Context, o Options) (*Result, error) { return RunLogin(ctx, o, k) })
	p := c.Flags()
	p.IntVar(&k.Users, "users", k.Users, "number of users")
	p.IntVar(&k.Groups, "groups", k.Groups, "groups that each user is in")
	p.IntVar(&k.Members, "members", k.Members, "members of each group")
	p.IntVar(&k.Messages, "messages", k.Messages, "messages stored in each group beforehand")
	p.BoolVar(&k.Subscribe, "subscribe", true, "users subscribe to groups/+ as part of connecting")
	return c
}

func newHistory() *cobra.Command {
	k := History{Clients: 64, Groups: 16, Messages: 200, Page: 20}
	c := scenarioCommand("history", "Clients that pull stored messages (Rookery only)",
		func(ctx context.Context, o Options) (*Result, error) { return RunHistory(ctx, o, k) })
	p := c.Flags()
	p.IntVar(&k.Clients, "clients", k.Clients, "number of clients, each with one call under way")
	p.IntVar(&k.Groups, "groups", k.Groups, "number of groups")
	p.IntVar(&k.Messages, "messages", k.Messages, "messages stored in each group beforehand")
	p.IntVar(&k.Page, "page", k.Page, "messages asked for in a call")
	return c
}

func newRest() *cobra.Command {
	k := Rest{Connections: 64, Groups: 64, Size: 200}
	c := scenarioCommand("rest", "Messages through send_group_msg of the REST API (Rookery only)",
		func(ctx context.Context, o Options) (*Result, error) { return RunRest(ctx, o, k) })
	p := c.Flags()
	p.IntVarP(&k.Connections, "connections", "n", k.Connections, "HTTP connections, each with one request under way")
	p.IntVar(&k.Groups, "groups", k.Groups, "number of groups")
	p.IntVar(&k.Size, "size", k.Size, "bytes of the text")
	p.Float64Var(&k.Rate, "rate", 0, "calls a second in all, on a timetable (0: as fast as they are answered)")
	p.StringVar(&k.Get, "get", "", "ask for this path by GET instead, such as /healthz")
	return c
}

func newStore() *cobra.Command {
	k := Store{Writers: 1000, Size: 300}
	c := scenarioCommand("store", "This disk and Pebble alone: the measure for what a server stores",
		func(ctx context.Context, o Options) (*Result, error) { return RunStore(ctx, o, k) })
	p := c.Flags()
	p.StringVar(&k.Dir, "dir", "", "folder on the disk to be measured (default: the system's for temporary files)")
	p.IntVar(&k.Writers, "writers", k.Writers, "writers that commit at the same time")
	p.IntVar(&k.Size, "size", k.Size, "bytes of a record")
	return c
}

func newCompare() *cobra.Command {
	var o Options
	var k Compare
	var jsonFile, markdownFile string
	c := &cobra.Command{
		Use: "compare", Short: "Measure Rookery, mosquitto and bare mochi in turn, and compare medians with the targets", Args: cobra.NoArgs,
		Long: "Measure Rookery, mosquitto and bare mochi in turn, each on a server of its own that is started and stopped for it,\n" +
			"several rounds, and compare the medians with the targets. The contests are\n\n  " + strings.Join(contestNames(), "\n  "),
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Warmup == 0 {
				o.Warmup = -1
			}
			k.Log = c.ErrOrStderr()
			res, err := RunCompare(c.Context(), o, k)
			if err != nil {
				return err
			}
			err = errors.Join(res.WriteTable(c.OutOrStdout()), writeFile(jsonFile, res.WriteJSON))
			if markdownFile != "" {
				err = errors.Join(err, res.WriteMarkdown(markdownFile))
			}
			return err
		},
	}
	p := c.Flags()
	p.StringSliceVar(&k.Only, "only", nil, "contests to hold (default: all)")
	p.IntVar(&k.Rounds, "rounds", 5, "how often every contest is held")
	p.DurationVarP(&o.Duration, "duration", "d", 5*time.Second, "length of the measured part of each run")
	p.DurationVar(&o.Warmup, "warmup", 2*time.Second, "length of the part before it")
	p.IntVar(&o.Threads, "threads", 0, "event loops (default: one for every two processors)")
	p.StringVar(&k.Rookery, "rookery", "", "the rookery binary to measure (default: this one)")
	p.StringVar(&k.Mosquitto, "mosquitto", "mosquitto", "the mosquitto binary")
	p.StringVar(&k.Dir, "dir", "", "folder on the disk to be measured (default: the system's for temporary files)")
	p.StringVar(&k.Flames, "flames", "", "folder for flame graphs of Rookery's CPU time, one a contest, from a run of their own (default: none)")
	p.StringVar(&jsonFile, "json", "", "also write everything to this file as JSON")
	p.StringVar(&markdownFile, "markdown", "", "also write the tables into this file, between its lines "+markdownBegin+" and "+markdownEnd)
	return c
}

func newMochiServer() *cobra.Command {
	var address, readyFile string
	c := &cobra.Command{
		Use: "mochi-server", Short: "Run a bare mochi-mqtt server to compare with", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return ServeMochi(c.Context(), address, readyFile) },
	}
	c.Flags().StringVar(&address, "addr", "127.0.0.1:1883", "host:port to listen on")
	c.Flags().StringVar(&readyFile, "ready-file", "", "file that gets the address when the server listens")
	return c
}
