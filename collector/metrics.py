"""What the daemon says about itself, for Prometheus: `/metrics`."""

from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from collector import __version__


class Metrics:
    """The daemon's own figures, in a registry of their own."""

    def __init__(self) -> None:
        """Make every metric, all at zero."""
        self.registry = CollectorRegistry()
        registry = self.registry
        Info("bbbmeter_build", "Version of bbbmeter.", registry=registry).info(
            {"version": __version__}
        )
        self.polls = Counter(
            "bbbmeter_polls",
            "Polls by outcome: ok, partial, or why they failed.",
            ["outcome"],
            registry=registry,
        )
        self.poll_seconds = Histogram(
            "bbbmeter_poll_seconds",
            "Time that a server took to answer in full, parsing included.",
            buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=registry,
        )
        self.server_up = Gauge(
            "bbbmeter_server_up", "1 if the last poll succeeded.", ["server"], registry=registry
        )
        self.tls_expires = Gauge(
            "bbbmeter_tls_expires_timestamp_seconds",
            "When the certificate that the server last showed expires, Unix time.",
            ["server"],
            registry=registry,
        )
        self.tick_seconds = Histogram(
            "bbbmeter_tick_seconds",
            "Time from a tick to the answer of its last server.",
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60),
            registry=registry,
        )
        self.queue_polls = Gauge(
            "bbbmeter_queue_polls", "Polls that wait to be stored.", registry=registry
        )
        self.queue_samples = Gauge(
            "bbbmeter_queue_samples", "Samples that wait to be stored.", registry=registry
        )
        self.dropped_polls = Counter(
            "bbbmeter_dropped_polls",
            "Polls that were not stored, by outcome: spool_full, rejected or too_old.",
            ["outcome"],
            registry=registry,
        )
        self.spool_polls = Gauge(
            "bbbmeter_spool_polls", "Polls that wait on disk to be stored.", registry=registry
        )
        self.spool_bytes = Gauge(
            "bbbmeter_spool_bytes", "What waits on disk takes so many bytes.", registry=registry
        )
        self.spool_max_bytes = Gauge(
            "bbbmeter_spool_max_bytes", "So many bytes it may take.", registry=registry
        )
        self.spool_failures = Counter(
            "bbbmeter_spool_failures",
            "Times that the spool took nothing: it was full, or the disk was.",
            registry=registry,
        )
        self.quarantined_batches = Gauge(
            "bbbmeter_quarantined_batches",
            "Batches that the database refused for their content: see `bbbmeter spool list`.",
            registry=registry,
        )
        self.collectors = Gauge(
            "bbbmeter_collectors", "Collectors that live, as this one sees it.", registry=registry
        )
        self.servers = Gauge(
            "bbbmeter_servers", "Servers that this collector polls.", registry=registry
        )
        self.clock_steps = Counter(
            "bbbmeter_clock_steps", "Times that this machine's clock was set.", registry=registry
        )
        self.verify_findings = Gauge(
            "bbbmeter_verify_findings",
            "What the last `verify` found, by check; NaN for a check that could not be made.",
            ["check"],
            registry=registry,
        )
        self.verify_timestamp = Gauge(
            "bbbmeter_verify_timestamp_seconds", "When that was, Unix time.", registry=registry
        )
        self.rows = Counter("bbbmeter_rows", "Rows stored, by table.", ["table"], registry=registry)
        self.repeated_polls = Counter(
            "bbbmeter_repeated_polls",
            "Polls that were there already: a replay, or another collector's.",
            registry=registry,
        )
        self.write_seconds = Histogram(
            "bbbmeter_write_seconds",
            "Time that one batch took to be stored.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
            registry=registry,
        )
        self.write_failures = Counter(
            "bbbmeter_write_failures", "Batches that could not be stored, yet.", registry=registry
        )
        self.lag_seconds = Gauge(
            "bbbmeter_lag_seconds",
            "Age of the newest tick that is stored; grows while nothing is.",
            registry=registry,
        )
        self.job_failures = Counter(
            "bbbmeter_job_failures", "Background jobs that failed.", ["job"], registry=registry
        )
        self.reloads = Counter(
            "bbbmeter_settings_reloads",
            "Changes of the settings file by outcome: applied or refused.",
            ["outcome"],
            registry=registry,
        )

    def forget(self, server: str) -> None:
        """Drop the gauges of a server that this collector polls no more."""
        for gauge in (self.server_up, self.tls_expires):
            with suppress(KeyError):
                gauge.remove(server)
