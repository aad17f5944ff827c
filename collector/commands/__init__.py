"""`bbbmeter NAME` is `commands/NAME.py`: its options, one call, and what it prints."""
