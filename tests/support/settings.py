"""Settings for tests, and code that tests of the settings share."""

from collections.abc import Callable
from typing import Any

from pydantic import SecretStr

from collector.settings import RetentionSettings, ServerSettings, Settings

# Retention in days; 0 keeps all data.
KEEP_ALL = dict.fromkeys(RetentionSettings.model_fields, 0)
# Longer than any history that tests write.
PAST_RETENTION = {"sample": 400, "poll": 400}
# A valid entry of `[[server]]`, as text.
SERVER = """
[[server]]
name = "bbb1"
url = "https://bbb1.example.org/bigbluebutton/"
secret = "hush"
"""

# The type of the fixture `load`, which loads settings from a text.
Load = Callable[[str], Settings]
# The type of the fixture `problems`, which loads an invalid text and returns its problems.
Problems = Callable[[str], list[str]]


def make_settings(**changes: Any) -> Settings:  # noqa: ANN401 - any key of the settings
    """Return settings for tests: the billing zone is Berlin, and the only server is `bbb1`."""
    values: dict[str, Any] = {
        "billing_timezone": "Europe/Berlin",
        "server": [make_server("bbb1")],
        **changes,
    }
    return Settings(**values)


def make_server(name: str, **changes: Any) -> ServerSettings:  # noqa: ANN401 - any key
    """Return a server's settings with an invented address and secret."""
    values: dict[str, Any] = {
        "name": name,
        "url": f"https://{name}.example.org/bigbluebutton/",
        "secret": SecretStr("an invented secret"),
        **changes,
    }
    return ServerSettings(**values)
