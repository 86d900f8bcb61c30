"""Loading of methods from other packages, and error messages that name the faulty line of their code."""

from __future__ import annotations

import inspect
import linecache
import traceback
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np

from palette_bench.core.errors import MethodError, Problem, problem

_OURS = "palette_bench"


def load_plugin(name: str, point: EntryPoint) -> Any:
    """Import and return the object that an entry point names.

    Args:
        name: name of the method on the command line.
        point: the entry point.

    Raises:
        MethodError: PB613, the package cannot be imported, or the object is not a method.
    """
    try:
        found = point.load()
    except (Exception, SystemExit) as error:
        if point.module.split(".")[0] == _OURS:
            raise
        line = _last_line(error, point.module.split(".")[0])
        said = f"{type(error).__name__}: {error}" + (f", at {line}" if line else "")
        shows = f"python -c 'import {point.module}' shows the error"
        fix = f"repair or reinstall the package that provides it; {shows}"
        raise MethodError.of("PB613", f"{name} = {point.value}", found=said, fix=fix) from error
    if inspect.isclass(found) or not (hasattr(found, "restorer") or hasattr(found, "export")):
        kind = f"a class, {found.__name__}" if inspect.isclass(found) else f"a {type(found).__name__}"
        fix = "point the entry point at an object: `baseline = Mine()`, with `def restorer(self, options)`"
        expected = "an object with restorer(options)"
        raise MethodError.of("PB613", f"{name} = {point.value}", expected=expected, found=kind, fix=fix)
    return found


def require_restorer(restorer: object) -> None:
    """Raise unless the object has the interface of a restorer; called before anything is written.

    Raises:
        MethodError: PB613, lists everything that is missing.
    """
    about, kind = getattr(restorer, "about", None), type(restorer).__name__
    expected = {
        "restore(batch)": callable(getattr(restorer, "restore", None)),
        "about, a MethodInfo": all(hasattr(about, part) for part in ("method", "training", "sampling")),
        "identity, a text": isinstance(getattr(restorer, "identity", None), str),
    }
    missing = [name for name, there in expected.items() if not there]
    if missing:
        fix, found = 'see docs/outside-tools.md, "A model in Python"', f"no {'; no '.join(missing)}"
        raise MethodError.of("PB613", kind, expected="; ".join(expected), found=found, fix=fix)


def require_images(returned: object, expected: tuple[int, ...], of: str) -> None:
    """Raise unless a method returned a uint8 NumPy array of the expected shape.

    Args:
        returned: the value that the method returned.
        expected: the shape.
        of: name of the called function, for the message.

    Raises:
        MethodError: PB613.
    """
    if isinstance(returned, np.ndarray) and returned.dtype == np.uint8 and returned.shape == expected:
        return
    found = type(returned).__name__
    fix = "return a NumPy array: for a tensor, `.cpu().numpy()`"
    if isinstance(returned, np.ndarray):
        found = f"{returned.shape} {returned.dtype}"
        fix = "return one image per input, channels last"
        if returned.shape == expected and returned.size and returned.dtype.kind == "f":
            found += f", from {returned.min():.3g} to {returned.max():.3g}"
            fix = "scale to 0..255, round, clip, and convert to uint8"
    raise MethodError.of("PB613", of, expected=f"{expected} uint8", found=found, fix=fix)


def failure_of_plugin(error: BaseException, modules: set[str], crash_file: str) -> Problem | None:
    """Return PB613 for an exception that passed through a plug-in's code; None if it did not.

    Args:
        error: the exception, with its traceback.
        modules: top-level modules of the installed methods.
        crash_file: path of the file with the whole traceback.
    """
    theirs = modules - {_OURS}
    line = next((found for module in theirs if (found := _last_line(error, module))), "")
    if not line:
        return None
    fix = f"correct the method and run again: finished outputs are kept. Full traceback: {crash_file}"
    return problem("PB613", line, found=f"{type(error).__name__}: {error}", fix=fix)


def _last_line(error: BaseException, module: str) -> str:
    """Return file, line number, function and text of the innermost frame in `module`, or an empty string."""
    found = ""
    for frame, number in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__", "")).split(".")[0] == module:
            file, text = frame.f_code.co_filename, linecache.getline(frame.f_code.co_filename, number).strip()
            found = f"{file}:{number}, in {frame.f_code.co_name}: {text}"
    return found
