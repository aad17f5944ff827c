"""Base class and common types of all sections of the settings."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_TENANT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_tenant_name(name: str) -> bool:
    """Say whether `name` is a valid tenant name.

    Valid are 1 to 64 letters, digits, `.`, `_` and `-`, beginning with a letter or digit.
    """
    return _TENANT_NAME.fullmatch(name) is not None


def _check_name(name: str) -> str:
    if not is_tenant_name(name):
        msg = "must be 1 to 64 letters, digits, '.', '_' or '-', and begin with a letter or digit"
        raise ValueError(msg)
    return name


Name = Annotated[str, AfterValidator(_check_name)]
Days = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """Base class of the file's tables. Instances are frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
