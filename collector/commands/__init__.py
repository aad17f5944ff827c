"""Each command `bbbmeter NAME` is a module `NAME`: its options, one call, and its output."""
