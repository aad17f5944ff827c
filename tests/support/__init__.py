"""Code that tests, benchmarks, the chaos run, the fuzzer, previews and the docs' tools share."""
