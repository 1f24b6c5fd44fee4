package main

import (
	"cmp"
	"os"

	"github.com/spf13/pflag"

	"github.com/rookery-im/rookery/configs"
)

// A keyFlag is a flag that sets a key of the configuration.
type keyFlag struct{ name, key, usage string }

var dataDirFlag = keyFlag{"data-dir", "app.data_dir", "data folder (default ./data)"}

// configFlags are the flags that say what the configuration is.
type configFlags struct {
	set  *pflag.FlagSet
	file *string
	keys []keyFlag
}

func newConfigFlags(set *pflag.FlagSet, keys ...keyFlag) configFlags {
	f := configFlags{set: set, file: set.String("config", "", "configuration file (default $"+configs.FileVariable+", else none)"), keys: keys}
	for _, k := range keys {
		set.String(k.name, "", k.usage)
	}
	return f
}

// path is the configuration file, or empty.
func (f configFlags) path() string { return cmp.Or(*f.file, os.Getenv(configs.FileVariable)) }

// load reads the configuration from the file, the environment and the flags.
func (f configFlags) load() (*configs.Config, error) {
	src := configs.Sources{File: f.path(), Env: os.Environ()}
	for _, k := range f.keys {
		if given := f.set.Lookup(k.name); given.Changed {
			src.Flags = append(src.Flags, configs.Flag{Name: "--" + k.name, Key: k.key, Value: given.Value.String()})
		}
	}
	return configs.Load(src)
}
