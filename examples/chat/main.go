// Command chat is a terminal chat over Rookery's Go client: what you type goes to the group you are in.
//
//	go run ./examples/chat -user alice -sig "$(bin/rookery usersig --user alice)" birds
//
// /help lists what else it can do.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rookery-im/rookery/client"
	"github.com/rookery-im/rookery/group"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

// requestTime is how long a command may wait for the server.
const requestTime = 15 * time.Second

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("chat", flag.ContinueOnError)
	server := flags.String("server", "mqtt://127.0.0.1:1883", "the server's `URL`")
	user := flags.String("user", "", "your `UserID`")
	sig := flags.String("sig", "", "your UserSig; an app would ask its backend for one before each connection")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ui := &chat{out: out}
	if flags.NArg() > 0 {
		ui.group = group.ID(flags.Arg(0))
	}
	c, err := client.Dial(ctx, client.Config{
		Server: *server, Account: group.Account(*user), Platform: "PC",
		UserSig:      func(context.Context) (string, error) { return *sig, nil },
		OnNewMessage: func(_ *client.Client, m client.Message) { ui.message(m) },
		OnRefresh:    func(c *client.Client) { ui.conversations(c) },
		OnEvent:      func(_ *client.Client, ev client.Event) { ui.event(ev) },
	})
	if err != nil {
		return err
	}
	defer c.Close()
	lines := make(chan string)
	go func() { // ends with the input; a terminal's can't be interrupted
		defer close(lines)
		for s := bufio.NewScanner(in); s.Scan(); {
			select {
			case lines <- s.Text():
			case <-c.Done():
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.Done():
			return c.Err()
		case line, ok := <-lines:
			if !ok || line == "/quit" {
				return nil
			}
			if err := ui.do(ctx, c, line); err != nil {
				ui.print("! %v", err)
			}
		}
	}
}

type chat struct {
	mu    sync.Mutex // the handlers print too
	out   io.Writer
	group group.ID // what is typed goes there
}

func (u *chat) print(format string, args ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, _ = fmt.Fprintf(u.out, format+"\n", args...) // without a screen there is nobody to tell
}

const help = `text            send it to the group
/in GROUP       go to a group
/join GROUP     become a member
/create GROUP   create a group that everybody may join
/groups         list your groups
/history [N]    show the newest N messages (20)
/read           mark the group as read
/recall SEQ     take a message back
/quit`

// do does what a line asks for.
func (u *chat) do(ctx context.Context, c *client.Client, line string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	command, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch command {
	case "":
		return nil
	case "/help":
		u.print(help)
		return nil
	case "/in":
		u.group = group.ID(arg)
		return nil
	case "/join":
		member, err := c.Join(ctx, group.ID(arg), "")
		if err == nil && !member {
			u.print("* somebody has to let you in")
		}
		u.group = group.ID(arg)
		return err
	case "/create":
		id, err := c.CreateGroup(ctx, client.NewGroup{Type: group.Public, ID: group.ID(arg), Name: arg, ApplyJoinOption: group.FreeAccess})
		u.group = id
		return err
	case "/groups":
		u.conversations(c)
		return nil
	case "/history":
		return u.history(ctx, c, arg)
	case "/read":
		conversation, _ := c.Conversation(u.group)
		return c.MarkRead(ctx, u.group, conversation.LastSeq)
	case "/recall":
		seq, err := strconv.ParseInt(arg, 10, 64)
		if err != nil {
			return errors.New("/recall takes the number of a message")
		}
		return c.Recall(ctx, u.group, "", group.Seq(seq))
	}
	if strings.HasPrefix(command, "/") {
		return fmt.Errorf("%s: no such command; /help lists them", command)
	}
	if u.group == "" {
		return errors.New("go to a group first: /in GROUP")
	}
	_, err := c.Send(ctx, u.group, &client.Draft{Body: []client.Element{client.Text(line)}})
	return err
}

func (u *chat) history(ctx context.Context, c *client.Client, arg string) error {
	n := 20
	if arg != "" {
		var err error
		if n, err = strconv.Atoi(arg); err != nil || n < 1 {
			return errors.New("/history takes how many messages to show")
		}
	}
	var page []client.Message
	for m, err := range c.MessagesBefore(ctx, u.group, 0) {
		if err != nil {
			return err
		}
		if page = append(page, m); len(page) == n {
			break
		}
	}
	for _, m := range slices.Backward(page) {
		u.message(m)
	}
	return nil
}

func (u *chat) message(m client.Message) {
	text := m.Text()
	switch {
	case m.Recalled:
		text = "(recalled)"
	case m.Tip:
		text = "(the group has changed)"
	case text == "" && len(m.Body) > 0:
		text = "(" + m.Body[0].Type + ")"
	}
	who := m.Sender.NameCard
	for _, name := range []string{m.Sender.Nick, string(m.From)} {
		if who == "" {
			who = name
		}
	}
	u.print("%s #%d %s: %s", m.Group, m.Seq, who, text)
}

func (u *chat) conversations(c *client.Client) {
	u.print("* your groups:")
	for _, v := range c.Conversations() {
		u.print("*   %s (%s): %d unread", v.Group, v.Name, v.Unread)
	}
}

func (u *chat) event(ev client.Event) {
	switch ev := ev.(type) {
	case client.Disconnected:
		u.print("* connection lost")
	case client.Refused:
		u.print("* not connected: %v", ev.Err)
	case client.Kicked:
		u.print("* logged out: %s", ev.Reason)
	case client.Recalled:
		u.print("%s #%d was recalled by %s", ev.Group, ev.Seq, ev.By)
	case client.Modified:
		u.print("%s #%d was changed by the app", ev.Group, ev.Seq)
	case client.Gap:
		u.print("* %s: messages %d to %d are not shown", ev.Group, ev.From, ev.To)
	case client.Notice:
		if ev.Group != "" {
			u.print("* %s: %s", ev.Group, ev.Name)
		}
	}
}
