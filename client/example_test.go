package client_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rookery-im/rookery/client"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/internal/crash"
	"github.com/rookery-im/rookery/usersig"
)

// exampleSecret is the secret of the server that exampleServer runs.
var exampleSecret = crash.App.Secret

// exampleServer runs a server for an example.
func exampleServer() (url string, stop func()) {
	dir, err := os.MkdirTemp("", "rookery-example")
	if err != nil {
		panic(err)
	}
	program, err := build()
	if err != nil {
		panic(err)
	}
	n, err := crash.Start(context.Background(), program, filepath.Join(dir, "data"))
	if err != nil {
		panic(err)
	}
	return "mqtt://" + n.MQTT, func() {
		_ = n.Stop()
		_ = os.RemoveAll(dir)
	}
}

// Alice creates a group, Bob joins it, and she greets him.
func Example() {
	server, stop := exampleServer()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	// A real app asks its backend for UserSigs: the app's secret is not for devices.
	app := usersig.App{ID: 1400000001, Secret: exampleSecret} // app.sdkappid, app.secret
	dial := func(account group.Account, onMessage func(*client.Client, client.Message)) *client.Client {
		c, err := client.Dial(ctx, client.Config{
			Server:  server,
			Account: account,
			UserSig: func(context.Context) (string, error) {
				return usersig.Generate(app, string(account), time.Now(), time.Hour, nil)
			},
			OnNewMessage: onMessage,
		})
		if err != nil {
			panic(err)
		}
		return c
	}
	greeted := make(chan struct{})
	alice := dial("alice", nil)
	defer alice.Close()
	bob := dial("bob", func(_ *client.Client, m client.Message) {
		if m.Tip {
			return // such as "bob joined"
		}
		fmt.Printf("%s says in %s: %s\n", m.From, m.Group, m.Text())
		close(greeted)
	})
	defer bob.Close()

	birds, err := alice.CreateGroup(ctx, client.NewGroup{Type: group.Public, ID: "birds", Name: "Birds", ApplyJoinOption: group.FreeAccess})
	if err != nil {
		panic(err)
	}
	if _, err := bob.Join(ctx, birds, ""); err != nil {
		panic(err)
	}
	if _, err := alice.Send(ctx, birds, &client.Draft{Body: []client.Element{client.Text("hello, Bob")}}); err != nil {
		panic(err)
	}
	<-greeted

	for m, err := range bob.Messages(ctx, birds, 0) {
		if err != nil {
			panic(err)
		}
		if !m.Tip {
			fmt.Println("history:", m.Text())
		}
	}
	// Output:
	// alice says in birds: hello, Bob
	// history: hello, Bob
}
