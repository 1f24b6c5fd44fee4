// Command mongotest is a server that speaks MongoDB's wire protocol, for the tests of package
// storage/mongo: FerretDB in this process, on SQLite or PostgreSQL. It is a module of its own,
// so that Rookery itself does not depend on FerretDB.
//
// It prints its process id and its URI on one line, and serves until its standard input is
// closed, so that it never outlives the test that started it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mongotest:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	flags := flag.NewFlagSet("mongotest", flag.ContinueOnError)
	dir := flags.String("dir", "", "keep the data in this folder, in SQLite files")
	remove := flags.Bool("remove", false, "remove that folder in the end")
	postgres := flags.String("postgres", "", "keep the data in this PostgreSQL database (a URL) instead")
	listen := flags.String("listen", "127.0.0.1:0", "the TCP address")
	if err := flags.Parse(args); err != nil {
		return err
	}
	config := &ferretdb.Config{Listener: ferretdb.ListenerConfig{TCP: *listen}}
	switch {
	case *postgres != "":
		config.Handler, config.PostgreSQLURL = "postgresql", *postgres
	case *dir != "":
		path, err := filepath.Abs(*dir)
		if err != nil {
			return err
		}
		config.Handler, config.SQLiteURL = "sqlite", "file:"+path+"/"
	default:
		return errors.New("neither -dir nor -postgres is set")
	}
	server, err := ferretdb.New(config)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	if _, err := fmt.Fprintln(stdout, os.Getpid(), server.MongoDBURI()); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, stdin) // whatever it ends with, it ends
		stop()
	}()
	err = <-done
	if *remove {
		err = errors.Join(err, os.RemoveAll(*dir))
	}
	if ctx.Err() != nil {
		return nil // as asked
	}
	return err
}
