"""A Filter as SQL: a condition on a row of jobs, and for terms that an index knows, where to find few candidates."""

from collections.abc import Sequence
from dataclasses import dataclass

from broker.protocol.filter import Compare, Filter, Metric, OneOf, Op, Term, Text, Without

Parameter = str | int | float

_MIRRORED: dict[Op, tuple[str, str]] = {  # for a sort key that is -1e308 where there is no number
    ">": (">", ""),
    ">=": (">=", ""),
    "=": ("=", ""),
    "<": ("<", " AND {key} > -1e308"),
    "<=": ("<=", " AND {key} > -1e308"),
}
_KEY_OF = {"fitness": "fitness_key", "best": "best_key", "epoch": "epoch", "id": "id"}  # numbers that have an index
_INDEX_OF = {"state": "jobs_by_state", "node": "jobs_by_node", "reason": "jobs_by_reason", "task_id": "jobs_by_task_id"}


@dataclass(frozen=True, slots=True)
class Part:
    """SQL text and its parameters, in order."""

    sql: str
    parameters: tuple[Parameter, ...] = ()


ALL = Part("1")


def condition(terms: Sequence[Term]) -> Part:
    """What a row of jobs must satisfy."""
    parts = [_condition(term) for term in terms]
    return Part(" AND ".join(part.sql for part in parts) or "1", tuple(p for part in parts for p in part.parameters))


def candidates(filter: Filter) -> list[tuple[Term, Part]]:
    """For each term that an index knows: the ids of (at least) the jobs for which it is true; the slowest last."""
    terms = sorted((term for term in filter.terms if not term.negated), key=lambda term: isinstance(term, Text))
    return [(term, part) for term in terms if (part := _candidates(term)) is not None]


def _condition(term: Term) -> Part:
    part = _positive(term)
    return Part(f"NOT coalesce({part.sql}, 0)", part.parameters) if term.negated else part


def _positive(term: Term) -> Part:
    match term:
        case OneOf(key, values):
            return Part(f"{_column(key)} IN ({_marks(values)})", _stored(key, values))
        case Text():
            needles = tuple(term.needles)
            return Part(f"({' OR '.join(['instr(words, ?) > 0'] * len(needles))})", needles)
        case Compare(key, op, value):
            return Part(f"{'best_fitness' if key == 'best' else key} {op} ?", (value,))
        case Metric(key, op, value):
            return Part(
                f"""EXISTS (SELECT 1 FROM newest WHERE job_id = jobs.id AND value {op} ?
                    AND name_id IN (SELECT metric_names.id FROM metric_names WHERE key = ?))""",
                (value, key),
            )
        case Without(pattern):
            return Part("NOT pattern_in(?, name, model, user, data, task_id)", (pattern.pattern,))


def _candidates(term: Term) -> Part | None:
    match term:
        case OneOf("id", values):
            return Part(f"SELECT id FROM jobs WHERE id IN ({_marks(values)})", _stored("id", values))
        case OneOf(key, values) if key in _INDEX_OF:
            column = "node_key" if key == "node" else key
            return Part(
                f"SELECT id FROM jobs INDEXED BY {_INDEX_OF[key]} WHERE {column} IN ({_marks(values)})",
                _stored(key, values),
            )
        case Text():
            return Part("SELECT rowid FROM job_words WHERE job_words MATCH ?", (_matched(term),))
        case Compare(key, op, value) if key in _KEY_OF:
            column = _KEY_OF[key]
            compare, present = _MIRRORED[op]
            return Part(f"SELECT id FROM jobs WHERE {column} {compare} ?{present.format(key=column)}", (value,))
        case Metric(key, op, value):
            return Part(
                f"""SELECT job_id FROM newest INDEXED BY newest_by_value
                    WHERE name_id IN (SELECT id FROM metric_names WHERE key = ?) AND value {op} ?""",
                (key, value),
            )
        case _:
            return None


def _matched(term: Text) -> str:
    """For FTS5, which knows no order of words here: all of a phrase's words, in one field."""
    alternatives: list[str] = []
    for phrase in term.phrases:
        for letter in term.letters:
            words = [f'"{letter}:{word}"' for word in phrase]
            alternatives.append(f"({' AND '.join(words)}{'' if term.whole else ' *'})")
    return " OR ".join(alternatives)


def _column(key: str) -> str:
    return "node_key" if key == "node" else key


def _stored(key: str, values: frozenset[str]) -> tuple[Parameter, ...]:
    if key == "id":
        return tuple(int(value) for value in values)
    if key == "priority":
        return tuple(("high", "normal", "low").index(value) for value in values)
    return tuple(values)


def _marks(values: frozenset[str]) -> str:
    return ", ".join("?" * len(values))
