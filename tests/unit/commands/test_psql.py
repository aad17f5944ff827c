"""What of a DSN may stand on a command line."""

import pytest

from collector.commands.psql import without_password


@pytest.mark.parametrize(
    ("dsn", "bare", "password"),
    [
        ("postgresql://h", "postgresql://h", None),
        ("postgresql://u:p%40x@h:5/db?a=b", "postgresql://u@h:5/db?a=b", "p@x"),
        ("postgresql://u@h/db?password=a%2Fb&c=d", "postgresql://u@h/db?c=d", "a/b"),
        ("postgresql://u:one@h/db?password=two", "postgresql://u@h/db", "one"),
        ("postgresql://:pw@h,h2:6/db", "postgresql://h,h2:6/db", "pw"),
        (
            "postgresql:///db?host=%2Frun%2Fpg%20x&password=x&sslpassword=y",
            "postgresql:///db?host=%2Frun%2Fpg%20x",
            "x",
        ),
    ],
)
def test_no_password_is_left(dsn: str, bare: str, password: str | None) -> None:
    """Wherever a password stood, it goes apart; all else says the same as before."""
    assert without_password(dsn) == (bare, password)
