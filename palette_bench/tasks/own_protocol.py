"""Protocols of a user's own: files outside the package, with every problem of a file found at once.

The list files that a declaration names are read from its folder and become part of it, so that whatever
carries the declaration needs no other file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from palette_bench.core.errors import Problem, RecordError, SpecError, StorageError, problem, suggest
from palette_bench.core.records import raise_errors, read_file, validate
from palette_bench.core.resources import protocol_ids
from palette_bench.core.text import decode_text
from palette_bench.tasks.degradations import DEGRADATIONS
from palette_bench.tasks.degradations.hole import CANVAS
from palette_bench.tasks.protocol import ProtocolSpec, TaskSpec, VariantSpec, load


def open_protocol(name: str, metrics: Collection[str] = (), extractors: Collection[str] = ()) -> ProtocolSpec:
    """Return a shipped protocol by its id, or the protocol in a file.

    A name that ends in .toml or .json, or has a folder, is a file.

    Args:
        name: id or path.
        metrics: ids of the metrics that may rank; () to accept any.
        extractors: ids of the networks that a protocol may name; () to accept any.

    Raises:
        SpecError: PB609, unknown protocol; or the file has problems, all of which are listed.
        StorageError: PB801, the file cannot be read.
    """
    if not (name.endswith((".toml", ".json")) or "/" in name):
        return load(name)
    path = Path(name)
    data = read_file(path)
    try:
        spec = ProtocolSpec.parse(data, path.name)
    except RecordError as error:
        raise SpecError(*error.problems, *_problems_of_tasks(data, path.name)) from None
    lists = dict(spec.lists)
    problems = []
    for list_name in spec.list_names:
        if list_name not in lists:
            try:
                lists[list_name] = decode_text(read_file(path.parent / list_name))
            except (StorageError, ValueError) as error:
                fix = "put the file beside the protocol"
                problems.append(
                    problem("PB801", f"{path.name}: {list_name}", found=str(error)[:200], fix=fix)
                )
    problems += _problems(spec, metrics, extractors, path.name)
    raise_errors(problems, SpecError)
    return spec.model_copy(update={"lists": lists})


def _problems(
    spec: ProtocolSpec, metrics: Collection[str], extractors: Collection[str], file: str
) -> Iterator[Problem]:
    """Yield what is wrong with a declaration whose keys and types are right."""
    if spec.id in protocol_ids():
        fix = "choose an id of your own: a shipped protocol keeps its meaning"
        yield problem(
            "PB609", f"{file}: id", expected="an id no shipped protocol has", found=spec.id, fix=fix
        )
    for name, task in spec.tasks.items():
        yield from _task_problems(task, spec.side, f"{file}: tasks.{name}")
        for source in task.sources:
            if source not in spec.sources:
                where, fix = (
                    f"{file}: tasks.{name}.sources",
                    "declare it, or leave it out: folders fit every task",
                )
                yield problem("PB609", where, expected="a declared source", found=source, fix=fix)
    yield from _metric_problems(spec, metrics, file)
    if not spec.extractors:
        yield problem(
            "PB403", f"{file}: extractors", expected="a network", found="none", fix='write ["NETWORK"]'
        )
    for name in spec.extractors:
        if extractors and name not in extractors and not name.startswith("timm:"):
            yield _unknown(f"{file}: extractors", name, extractors)


def _metric_problems(spec: ProtocolSpec, metrics: Collection[str], file: str) -> Iterator[Problem]:
    """Yield what is wrong with the lists of metrics; without `metrics`, their names are not checked."""
    if not spec.ranked.get("folder"):
        fix = 'write folder = ["METRIC", ...]: the metrics that rank sets of image folders'
        yield problem("PB403", f"{file}: ranked.folder", expected="a list of metrics", found="none", fix=fix)
    for source in spec.ranked:
        if source not in (*spec.sources, "folder"):
            yield _unknown(f"{file}: ranked", source, (*spec.sources, "folder"))
    lists = {f"ranked.{source}": named for source, named in spec.ranked.items()}
    lists |= {f"tasks.{name}.ranked": task.ranked for name, task in spec.tasks.items()}
    for key, named in (lists | {"shown": spec.shown}).items():
        for metric in named:
            if metrics and metric not in metrics:
                yield _unknown(f"{file}: {key}", metric, metrics)


def _task_problems(task: TaskSpec, side: int, where: str) -> Iterator[Problem]:
    """Yield what is wrong with a task: its degradation, and the keys and values that this one reads."""
    degradation = DEGRADATIONS.get(task.degradation)
    if degradation is None:
        yield _unknown(f"{where}.degradation", task.degradation, DEGRADATIONS)
        return
    readable = {key for row in DEGRADATIONS.values() for key in row.one_of}
    for name, variant in task.variants.items():
        at = f"{where}.variants.{name}"
        given = {key for key in readable if getattr(variant, key) is not None}
        wrong = [*_value_problems(variant, degradation.parameters, f"{at}.parameters")]
        if len(given & set(degradation.one_of)) != min(1, len(degradation.one_of)):
            expected = f"one of {', '.join(degradation.one_of)}"
            found = ", ".join(sorted(given)) or "none"
            wrong.append(
                problem("PB403", at, expected=expected, found=found, fix="write exactly one of them")
            )
        for key in sorted(given - set(degradation.one_of)):
            fix = f"remove it: {task.degradation} does not read it"
            wrong.append(problem("PB402", f"{at}.{key}", fix=fix))
        if not wrong and (misfit := degradation.misfit(variant, side)):
            expected, fix = f"what fits {side} x {side} pixels", "change the variant or the side"
            wrong.append(problem("PB403", at, expected=expected, found=misfit, fix=fix))
        yield from wrong


def _value_problems(
    variant: VariantSpec, wanted: Mapping[str, tuple[int, int]], where: str
) -> Iterator[Problem]:
    """Yield the parameters of a variant that are missing, unknown or out of range."""
    for key, (low, high) in wanted.items():
        value = variant.parameters.get(key)
        if value is None or not low <= value <= high:
            found = "nothing" if value is None else str(value)
            fix = "write such a value"
            yield problem("PB403", f"{where}.{key}", expected=f"{low} to {high}", found=found, fix=fix)
    for key in sorted(variant.parameters.keys() - wanted.keys()):
        yield problem("PB402", f"{where}.{key}", fix=suggest(key, wanted) if wanted else "remove it")


def _problems_of_tasks(data: bytes, file: str) -> Iterator[Problem]:
    """Yield the problems of the tasks that can be read in a file which cannot be read as a whole."""
    try:
        value = tomllib.loads(decode_text(data))
    except ValueError:  # no TOML, which the caller reports
        return
    tasks, side = value.get("tasks"), value.get("side")
    for name, task in tasks.items() if isinstance(tasks, dict) else ():
        try:
            spec = validate(TaskSpec, task, file)
        except (RecordError, TypeError):  # reported by the caller, key by key
            continue
        fitting = side if isinstance(side, int) and side > 0 else CANVAS
        yield from _task_problems(spec, fitting, f"{file}: tasks.{name}")


def _unknown(where: str, name: str, known: Collection[str]) -> Problem:
    return problem("PB609", where, expected="a known name", found=name, fix=suggest(name, known))
