"""What tests, benchmarks, the chaos run, the fuzzer, previews and the docs' scripts share."""
