"""The daemon's Prometheus metrics, which `/metrics` serves."""

from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from collector import __version__


class Metrics:
    """All metrics of a daemon, in their own registry."""

    def __init__(self) -> None:
        """Create every metric with the value zero."""
        self.registry = CollectorRegistry()
        registry = self.registry
        Info("bbbmeter_build", "Version of bbbmeter.", registry=registry).info(
            {"version": __version__}
        )
        self.polls = Counter(
            "bbbmeter_polls",
            "Polls by outcome: ok, partial, or the reason of the failure.",
            ["outcome"],
            registry=registry,
        )
        self.poll_seconds = Histogram(
            "bbbmeter_poll_seconds",
            "Seconds until a server's answer was complete and parsed.",
            buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=registry,
        )
        self.server_up = Gauge(
            "bbbmeter_server_up",
            "1 if the server's last poll succeeded, else 0. The outcome not_asked does not count.",
            ["server"],
            registry=registry,
        )
        self.tls_expires = Gauge(
            "bbbmeter_tls_expires_timestamp_seconds",
            "Unix time at which the certificate that the server last showed expires.",
            ["server"],
            registry=registry,
        )
        self.tick_seconds = Histogram(
            "bbbmeter_tick_seconds",
            "Seconds from a tick until its last server answered.",
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60),
            registry=registry,
        )
        self.queue_polls = Gauge(
            "bbbmeter_queue_polls", "Polls that wait in memory to be stored.", registry=registry
        )
        self.queue_samples = Gauge(
            "bbbmeter_queue_samples", "Samples that wait in memory to be stored.", registry=registry
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
            "bbbmeter_spool_bytes", "Size of the batches that wait on disk.", registry=registry
        )
        self.spool_max_bytes = Gauge(
            "bbbmeter_spool_max_bytes", "Maximum size of the spool (max_bytes).", registry=registry
        )
        self.spool_failures = Counter(
            "bbbmeter_spool_failures",
            "Times that the spool could not be opened or written.",
            registry=registry,
        )
        self.quarantined_batches = Gauge(
            "bbbmeter_quarantined_batches",
            "Batches in quarantine: run `bbbmeter spool list` to see the reasons.",
            registry=registry,
        )
        self.collectors = Gauge(
            "bbbmeter_collectors", "Collectors that this one sees alive.", registry=registry
        )
        self.different_fleets = Gauge(
            "bbbmeter_different_fleets",
            "Living collectors whose settings have a different fleet than this one's.",
            registry=registry,
        )
        self.refused_sessions = Gauge(
            "bbbmeter_tenants_refused_sessions",
            "Sessions that went to the default tenant because of max_tenants, since the start.",
            registry=registry,
        )
        self.duplicate_sessions = Gauge(
            "bbbmeter_duplicate_sessions",
            "Sessions of meetings that another server shows too, by how often they count: once or "
            "twice. 0 at collectors that do not do the jobs for all.",
            ["counted"],
            registry=registry,
        )
        self.servers = Gauge(
            "bbbmeter_servers", "Servers that this collector polls.", registry=registry
        )
        self.clock_steps = Counter(
            "bbbmeter_clock_steps", "Times that this machine's clock was set.", registry=registry
        )
        self.verify_findings = Gauge(
            "bbbmeter_verify_findings",
            "Findings of the last verification, by check; NaN for a check that could not run.",
            ["check"],
            registry=registry,
        )
        self.verify_timestamp = Gauge(
            "bbbmeter_verify_timestamp_seconds",
            "Unix time of the last verification.",
            registry=registry,
        )
        self.rows = Counter("bbbmeter_rows", "Rows stored, by table.", ["table"], registry=registry)
        self.repeated_polls = Counter(
            "bbbmeter_repeated_polls",
            "Polls that were stored already, by a retry or by another collector.",
            registry=registry,
        )
        self.write_seconds = Histogram(
            "bbbmeter_write_seconds",
            "Seconds to store one batch.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
            registry=registry,
        )
        self.write_failures = Counter(
            "bbbmeter_write_failures",
            "Failed attempts to store a batch; each is retried.",
            registry=registry,
        )
        self.lag_seconds = Gauge(
            "bbbmeter_lag_seconds",
            "Age of the newest stored tick in seconds; it grows while nothing is stored.",
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
        """Remove the gauges of a server that this collector no longer polls."""
        for gauge in (self.server_up, self.tls_expires):
            with suppress(KeyError):
                gauge.remove(server)
