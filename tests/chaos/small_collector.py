"""`bbbmeter` with so little room in memory that a full disk has it refuse polls within a minute."""

from collector.cli import main
from collector.storage import outbox

WAITING_POLLS = 20

if __name__ == "__main__":
    outbox.MAX_WAITING_POLLS = WAITING_POLLS
    main()
