"""Runs `bbbmeter` with little memory for polls: with a full disk it drops polls in a minute."""

from collector.cli import main
from collector.storage import outbox

WAITING_POLLS = 20

if __name__ == "__main__":
    outbox.MAX_WAITING_POLLS = WAITING_POLLS
    main()
