"""`python -m collector` is `bbbmeter`."""

from collector.cli import main

if __name__ == "__main__":
    main()
