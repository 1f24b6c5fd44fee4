package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rookery-im/rookery/hooks/callback"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/pebble"
)

// newOutbox is the tool for after-callbacks that could not be delivered. It opens the store
// itself, so that no server may have it open.
func newOutbox() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "outbox",
		Short: "Look at callbacks that are stuck, and send them again or drop them (on a stopped server)",
	}
	cmd.AddCommand(newOutboxList(), newOutboxChange("retry", "Queue callbacks that were given up to be sent again", callback.Retry),
		newOutboxChange("drop", "Forget callbacks that were given up", callback.Drop))
	return cmd
}

func newOutboxList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List callbacks that were given up, or that wait", Args: cobra.NoArgs}
	flags := newConfigFlags(cmd.Flags(), dataDirFlag)
	waiting := cmd.Flags().Bool("waiting", false, "list those that wait to be sent")
	limit := cmd.Flags().Int("limit", 100, "how many at most")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *limit < 1 {
			return fmt.Errorf("--limit: %d is below 1", *limit)
		}
		return withStore(cmd.Context(), flags, func(store storage.Store) error {
			list := callback.Dead
			if *waiting {
				list = callback.Waiting
			}
			items, err := list(cmd.Context(), store, *limit)
			if err != nil {
				return err
			}
			return printItems(cmd.OutOrStdout(), items)
		})
	}
	return cmd
}

func printItems(out io.Writer, items []callback.Item) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(w, "NUMBER\tQUEUE\tCALLBACK\tSINCE\tWHY")
	for _, it := range items {
		_, werr := fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", it.Number, it.Queue, it.Command, it.At.UTC().Format(time.RFC3339), it.Why)
		err = errors.Join(err, werr)
	}
	return errors.Join(err, w.Flush())
}

func newOutboxChange(use, short string, change func(context.Context, storage.Records, string) error) *cobra.Command {
	cmd := &cobra.Command{Use: use + " NUMBER... | --all", Short: short}
	flags := newConfigFlags(cmd.Flags(), dataDirFlag)
	all := cmd.Flags().Bool("all", false, "all that were given up")
	cmd.RunE = func(cmd *cobra.Command, numbers []string) error {
		if *all == (len(numbers) > 0) {
			return errors.New("give the numbers that list shows, or --all")
		}
		return withStore(cmd.Context(), flags, func(store storage.Store) error {
			if *all {
				items, err := callback.Dead(cmd.Context(), store, math.MaxInt32)
				if err != nil {
					return err
				}
				for _, it := range items {
					numbers = append(numbers, it.Number)
				}
			}
			for _, number := range numbers {
				if err := change(cmd.Context(), store, number); err != nil {
					return err
				}
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d callbacks\n", len(numbers))
			return err
		})
	}
	return cmd
}

// withStore opens the configured store for a tool, which makes none.
func withStore(ctx context.Context, flags configFlags, use func(storage.Store) error) error {
	cfg, err := flags.load()
	if err != nil {
		return err
	}
	if cfg.Storage.Driver != "mongo" {
		if exists, err := pebble.Exists(storeDir(cfg)); err != nil || !exists {
			return cmp.Or(err, fmt.Errorf("there is no store in %s: is app.data_dir that of the server?", storeDir(cfg)))
		}
	}
	store, err := openStore(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return errors.Join(use(store), store.Close())
}
