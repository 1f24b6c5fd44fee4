package main

import (
	"github.com/spf13/cobra"

	"github.com/rookery-im/rookery/cmd/rookery/bench"
)

func newBench() *cobra.Command { return bench.Command() }
