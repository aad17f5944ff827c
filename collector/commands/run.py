"""`bbbmeter run`: collect until SIGTERM."""

import asyncio
import gc

from collector.commands.options import Config, config_path, load
from collector.daemon import Daemon
from collector.errors import SettingsError
from collector.log import setup_logging


def run(config: Config = None) -> None:
    """Collect until SIGTERM."""
    path = config_path(config)
    settings = load(path)
    setup_logging(settings.log_format, settings.log_level)
    if not settings.enabled_servers:
        raise SettingsError(["server: there is none to poll"], str(path or "environment"))
    # What a tick makes lives to its end, so that the collector of cycles, which looks at it every
    # few hundred objects, finds nothing and takes a quarter of the processor's time.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    asyncio.run(Daemon(settings, path).run())
