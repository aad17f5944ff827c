"""`bbbmeter` with so little room in memory that a full disk has it refuse polls within a minute."""

from collector import outbox
from collector.cli import main

WAITING_POLLS = 20

if __name__ == "__main__":
    outbox.MAX_WAITING_POLLS = WAITING_POLLS
    main()
