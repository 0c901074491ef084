"""What the schemas of all files share: strict values, plain names, bounded texts, one error.

A name is shown and looked up: it has no control or format characters, no line ends, and one
spelling in Unicode. A text is for people to read; whoever shows it escapes it.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from typing import Annotated, Any, ClassVar, Literal, TypeGuard, TypeVar, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    WithJsonSchema,
    model_serializer,
)

from mlfsic_bench.errors import BenchError, nearest

DEEPEST = 10  # levels of a value whose keys no schema knows
LONGEST_LABEL = 100  # characters of a label
LONGEST_KEY = 200  # characters of a key that no schema knows
LONGEST = 1 << 20  # characters of any text
REFUSED = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format, surrogate, line and paragraph ends
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}|\.\d{6})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_DAY = re.compile(r"\d{4}(-\d\d(-\d\d)?)?", re.ASCII)


class FileSchema(BaseModel):
    """An object in a file.

    Unknown keys are refused, no value is turned into another type (true is no number, 1 no text),
    numbers are finite, and nothing changes after reading.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True
    )


class ShortSchema(FileSchema):
    """An object in a file, written without the keys in `absent` where they are null or false.

    Those came later than others: files made before keep their bytes, and so their hashes.
    """

    absent: ClassVar[tuple[str, ...]]

    @model_serializer(mode="wrap")
    def _without_absent(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = serialise(self)
        return {
            k: v for k, v in content.items() if not (k in self.absent and (v is None or v is False))
        }


def plain(text: str) -> str:
    """`text`, when it can be a name; ValueError saying what stands in it otherwise.

    >>> plain("two words")
    'two words'
    """
    if text.isascii() and text.isprintable() and text and text[0] != " " != text[-1]:
        return text
    odd = next((char for char in text if unicodedata.category(char) in REFUSED), None)
    if odd is not None:
        raise ValueError(f"text without control and format characters; U+{ord(odd):04X} is one")
    if not unicodedata.is_normalized("NFC", text):
        raise ValueError("text in the composed form of Unicode (NFC)")
    if text != text.strip() or not text:
        raise ValueError("text that is not blank, without blanks at its ends")
    return text


def is_plain(text: object) -> TypeGuard[str]:
    """Whether `text` is text that can be a name (`plain`)."""
    if not isinstance(text, str):
        return False
    try:
        return plain(text) == text
    except ValueError:
        return False


def label_problem(value: object) -> str:
    """What `value` would have to be for a label (`Label`); empty when it can be one.

    >>> label_problem("hot dog"), label_problem(" dog")
    ('', 'text that is not blank, without blanks at its ends')
    """
    if not isinstance(value, str) or not value:
        return "text that is not empty"
    if len(value) > LONGEST_LABEL:
        return f"text of at most {LONGEST_LABEL} characters"
    try:
        plain(value)
    except ValueError as error:
        return str(error)
    return ""


def shallow(value: Any) -> Any:
    """`value`; ValueError when it is nested more than DEEPEST levels, or has a key that is no name.

    For parts of a file whose keys no schema knows, such as a method's parameters.
    """
    level: list[Any] = [value]
    for _ in range(DEEPEST + 1):
        nested = [one for one in level if isinstance(one, (dict, list))]
        if not nested:
            return value
        for key in (key for one in nested if isinstance(one, dict) for key in one):
            if len(plain(key)) > LONGEST_KEY:
                raise ValueError(f"keys of at most {LONGEST_KEY} characters")
        level = [
            one for each in nested for one in (each.values() if isinstance(each, dict) else each)
        ]
    raise ValueError(f"values nested at most {DEEPEST} deep")


def _whole(value: Any) -> Any:
    # Without it 1.0 and true would equal the literal 1.
    if type(value) is not int:
        raise ValueError("a whole number")
    return value


def _time(text: str) -> str:
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ValueError("a time in ISO 8601, such as 2026-11-23T10:30:00+00:00") from None
    return text


def _day(text: str) -> str:
    try:
        if not _DAY.fullmatch(text):
            raise ValueError
        date.fromisoformat(text + "-01" * (2 - text.count("-")))
    except ValueError:
        raise ValueError("a year, month or day of the calendar, such as 2026-11-23") from None
    return text


_IN_WORDS: dict[str, str] = {}  # pattern -> what it asks for


def shaped(pattern: str, words: str, longest: int | None = None) -> Any:
    """A text that matches `pattern`, of which an error says in `words` what it should be."""
    _IN_WORDS[pattern] = words
    return Field(pattern=pattern, max_length=longest)


def _shown(length: int) -> WithJsonSchema:
    """What a JSON Schema says of a name: as much as the dialects of patterns share."""
    return WithJsonSchema({"type": "string", "pattern": rf"^[^\x00-\x1f\x7f-\x9f]{{1,{length}}}$"})


Label = Annotated[
    str,
    Field(min_length=1, max_length=LONGEST_LABEL),
    AfterValidator(plain),
    _shown(LONGEST_LABEL),
]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(plain), _shown(200)]
Line = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(plain), _shown(300)]
Text = Annotated[str, Field(max_length=4000)]
# A name that is looked up; it can't be a path, an address, or `file.py:Class`.
Word = Annotated[
    str,
    shaped(
        r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$",
        "a name of letters, digits and _ . + -, the first a letter or a digit",
        longest=100,
    ),
]
# Below a folder that the user names; no part begins with a dot, so none is "..".
_INNER = r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*"
_INNER_WORDS = (
    "a path below the folder: letters, digits and . _ - between slashes, no part with a dot "
    "in front"
)
InnerPath = Annotated[str, shaped(rf"^{_INNER}$", _INNER_WORDS, longest=300)]
InnerPaths = Annotated[
    str,
    shaped(rf"^{_INNER}(\+{_INNER})*$", f"{_INNER_WORDS}, or several with + between", longest=900),
]
Sha256 = Annotated[str, shaped(r"^[0-9a-f]{64}$", "a SHA-256: 64 digits of 0-9 and a-f")]
Time = Annotated[str, AfterValidator(_time)]
Day = Annotated[str, AfterValidator(_day)]
Version = Annotated[Literal[1], BeforeValidator(_whole)]
Values = Annotated[dict[str, Any], AfterValidator(shallow)]

M = TypeVar("M", bound=BaseModel)


def load(model: type[M], value: Any, where: str, *, page: str, remedy: str) -> M:
    """`value`, as JSON or YAML gives it, as a `model`; BenchError for the first key that is wrong.

    Parameters
    ----------
    where: what the value was read from, the beginning of the error.
    page: the page of the documentation that describes the keys.
    remedy: how to come by a sound file, after "correct the value, or".
    """
    try:
        odd = None if _is_sound(value) else _odd(value, "")
        data = b"" if odd else json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, RecursionError) as error:
        odd = "the file", "values of JSON in a few levels", f"{type(error).__name__}: {error}"
    if odd:
        raise BenchError(
            f"{where}: {odd[0]} is not valid",
            expected=odd[1],
            found=odd[2],
            remedy=f"correct the value ({page}), or {remedy}",
        )
    with one_error(where, page=page, remedy=remedy, model=model):
        return model.model_validate_json(data)


def _leaf_problem(value: Any) -> tuple[str, str] | None:
    """(expected, found) for text and numbers that no schema takes."""
    if isinstance(value, str):
        if len(value) > LONGEST:
            return f"text of at most {LONGEST} characters", str(len(value))
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            return "Unicode text that can be written as UTF-8", ascii(value)[:80]
    elif isinstance(value, float) and not math.isfinite(value):
        return "a finite number", str(value)
    return None


def _odd(value: Any, place: str) -> tuple[str, str, str] | None:
    """(place, expected, found) of the first text or number that no schema takes."""
    if isinstance(value, (dict, list)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in pairs:
            inside = f"{place}.{ascii(key)[:80]}".lstrip(".").replace("'", "")
            found = _odd(key, f"a key in {place or 'the file'}") or _odd(each, inside)
            if found:
                return found
        return None
    problem = _leaf_problem(value)
    return (place or "the file", *problem) if problem else None


def _is_sound(value: Any) -> bool:
    """Whether nothing in `value` is odd: without places, so fast enough for a million values."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting.extend(one)
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
        elif not isinstance(one, int) and _leaf_problem(one):
            return False
    return True


@contextmanager
def one_error(
    where: str, *, page: str, remedy: str, model: type[BaseModel] | None = None
) -> Iterator[None]:
    """Turn a ValidationError of the block into a BenchError; for values that came out of a file."""
    try:
        yield
    except ValidationError as error:
        raise _schema_error(error, model, where, page, remedy) from error


def _schema_error(
    error: ValidationError, model: type[BaseModel] | None, where: str, page: str, remedy: str
) -> BenchError:
    """The first thing that is wrong.

    Unknown keys come first, because they explain missing ones.
    """
    errors = error.errors(include_url=False)
    unknown = [item for item in errors if item["type"] == "extra_forbidden"]
    first = (unknown or errors)[0]
    place = ".".join(str(step) for step in first["loc"]) or "the file"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if first["type"] == "extra_forbidden" and model is not None:
        known = sorted(_model_at(model, first["loc"][:-1]).model_fields)
        close = nearest(str(first["loc"][-1]), known)
        return BenchError(
            f"{where}: unknown key {place!r}{more}",
            expected=f"only the keys {', '.join(known)}",
            found=repr(first["loc"][-1]),
            remedy=f"did you mean {close!r}?" if close else "remove the key",
        )
    if first["type"] == "missing":
        return BenchError(
            f"{where}: the key {place!r} is missing{more}",
            expected=f"all keys of the schema in {page}",
            found="no such key",
            remedy=f"add the key, or {remedy}",
        )
    text, expected = repr(first["input"]), first["msg"].removeprefix("Value error, ")
    expected = expected.removeprefix("Input should be ")
    if first["type"] == "string_pattern_mismatch":
        pattern = first["ctx"]["pattern"]
        expected = _IN_WORDS.get(pattern, f"text that matches {pattern}")
    if first["type"] == "json_invalid":  # JSON that was parsed before: all that is left is depth
        text, expected = expected, "values nested in a few levels"
    return BenchError(
        f"{where}: {place} is not valid{more}",
        expected=expected,
        found=text if len(text) <= 200 else text[:197] + "...",
        remedy=f"correct the value ({page}), or {remedy}",
    )


def _model_at(top: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    """The model whose keys stand at a place; a tag of a union picks its member."""
    models: list[type[BaseModel]] = [top]
    for step in location:
        tagged = [model for model in models if _tag(model) == step]
        fields = [model.model_fields[str(step)] for model in models if step in model.model_fields]
        if fields:
            models = models_in(fields[0].annotation) or models
        elif tagged:
            models = tagged
    return models[0]


def _tag(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("kind")
    values = get_args(field.annotation) if field else ()
    return str(values[0]) if values else None


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The schemas inside the annotation of a field."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) for found in models_in(inner)]
