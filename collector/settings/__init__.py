"""The keys of `bbbmeter.toml`, their checks, and the code that reads file and environment.

`root` is the whole file. `servers`, `tenants` and `retention` are its parts. `file` reads the file
and the environment. `example.toml` is the file that `bbbmeter init` writes.
"""

from collector.settings.base import Section, is_tenant_name
from collector.settings.retention import ColumnstoreSettings, RetentionSettings
from collector.settings.root import ENV_PREFIX, HttpSettings, Settings, SpoolSettings
from collector.settings.servers import ServerSettings
from collector.settings.tenants import (
    AttributionSettings,
    MetadataRule,
    OriginRule,
    ParentRule,
    PrefixRule,
    Rule,
    ServerRule,
    SuffixRule,
    TenantSettings,
)

__all__ = [
    "ENV_PREFIX",
    "AttributionSettings",
    "ColumnstoreSettings",
    "HttpSettings",
    "MetadataRule",
    "OriginRule",
    "ParentRule",
    "PrefixRule",
    "RetentionSettings",
    "Rule",
    "Section",
    "ServerRule",
    "ServerSettings",
    "Settings",
    "SpoolSettings",
    "SuffixRule",
    "TenantSettings",
    "is_tenant_name",
]
