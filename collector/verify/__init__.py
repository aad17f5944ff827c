"""`bbbmeter verify`: everything is computed again, and compared with what is stored.

`run` makes the checks, a module each, over the period that `scope` describes; each gives a
`result`, which `show` prints. It needs nothing but what a reader may see. Only `repair` writes.
"""

from collector.verify.repair import repair
from collector.verify.result import Finding, Result
from collector.verify.run import verify
from collector.verify.show import as_json, as_table

__all__ = ["Finding", "Result", "as_json", "as_table", "repair", "verify"]
