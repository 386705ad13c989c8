"""TOML files that a schema checks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from gaslayers._checks import bad_value

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_Model = TypeVar("_Model", bound=BaseModel)


def read_toml(owner: str, path: Path, kind: type[_Model]) -> _Model:
    """Read a file into a model.

    Args:
        owner: Who asks, for error messages.
        path: The file.
        kind: The model.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: It is no TOML, or it does not fit the model.
    """
    try:
        return kind.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise bad_value(owner, str(path), "be TOML", str(error)) from error
    except ValidationError as error:
        raise refuse(owner, str(path), error) from error


def refuse(owner: str, where: str, error: ValidationError) -> ValueError:
    """The first fault that pydantic found, as an error to be raised by the caller."""
    fault = error.errors(include_url=False)[0]
    place = ".".join([where, *map(str, fault["loc"])])
    return ValueError(f"{owner}: `{place}`: {fault['msg']}, got {fault['input']!r}.")
