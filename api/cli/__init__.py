"""The command line. Heavy packages are imported where they are used: `--help` is quick."""
