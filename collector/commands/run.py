"""`bbbmeter run`: run the collector until SIGTERM."""

import asyncio
import gc

from collector.commands.options import Config, config_path, load, no_server
from collector.daemon import Daemon
from collector.errors import SettingsError
from collector.log import setup_logging


def run(config: Config = None) -> None:
    """Run the collector until SIGTERM or Ctrl+C."""
    path = config_path(config)
    settings = load(path)
    setup_logging(settings.log_format, settings.log_level)
    if not settings.enabled_servers:
        raise SettingsError([f"server: {no_server(path)}"], str(path or "environment"))
    # The objects of a tick live until the tick ends. With its default thresholds, the garbage
    # collector would search them often, find nothing, and use a quarter of the processor time.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    asyncio.run(Daemon(settings, path).run())
