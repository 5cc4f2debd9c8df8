"""The base of settings, which pydantic checks, in files and as arguments."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from pointrend.errors import PointRendError, plain_text, printable, shown

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)


class _OneLine(ModelMetaclass):
    """Raises one line for wrong arguments, where pydantic lists everything, a paragraph each."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except ValidationError as error:
            raise PointRendError(f"{cls.__name__}: {first_problem(error)}") from error


Text = Annotated[str, AfterValidator(plain_text)]
"""A name: one line of at most 200 characters that a terminal shows as they are."""
LongText = Annotated[str, AfterValidator(partial(plain_text, what="a description", length=10_000))]
"""A description: one line of at most 10,000 characters."""


class Strict(BaseModel, metaclass=_OneLine):
    """Frozen settings; an unknown key is an error.

    Raises:
        PointRendError: an argument is unknown or out of range.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def first_problem(error: ValidationError) -> str:
    """Return the first error in one line: the key, what was expected, and what came."""
    first = error.errors()[0]
    key = printable(".".join(str(part)[:60] for part in first["loc"]), length=200)
    if first["type"] == "missing":
        return f"{key} is missing"
    message = printable(first["msg"].removeprefix("Value error, "), length=400)
    came = "" if ", got " in message else f", got {shown(first['input'])}"
    return f"{key}: {message[0].lower()}{message[1:]}{came}"
