"""`bbbmeter verify`: recomputes everything and compares it with what is stored.

`run` runs the checks over the period that `scope` describes. Each check has a module and returns a
`result`, which `show` prints. The checks need only the rights of a reader. Only `repair` writes.
"""

from collector.verify.repair import repair
from collector.verify.result import Finding, Result
from collector.verify.run import verify
from collector.verify.show import as_json, as_table

__all__ = ["Finding", "Result", "as_json", "as_table", "repair", "verify"]
