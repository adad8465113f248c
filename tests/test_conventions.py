"""How our code is written, where a linter has no rule: dataclasses and sentences."""

import ast
import re
from collections.abc import Iterator

import pytest
from conftest import ROOT

ROOMS = ("bench", "events", "function", "knative", "local", "model", "monitor")
# Fields by position are read well up to here: a fourth is mixed up with a third.
MAX_POSITIONAL = 3
# The sentences that say what it must be and not what it was, and why each has nothing to show.
WITHOUT_VALUE = {
    "The Authorization header must be the bearer token of `{…}`": "a secret",
    "`DATABASE_URL` must be sqlite:///file or postgresql://user@host/name": "may hold a password",
    "`PREDICT_S3_BUCKETS` and `PREDICT_TOKEN` must be set for `image.s3` to be read": "a secret",
    "The body must be in {…}, as its Content-Encoding says": "bytes that no one can read",
    "The form must be whole, its parts apart by its boundary, each with its name": "bytes",
    "The content type must have the form's boundary: {…}; boundary=…": "there is none",
    "{…} must name its classes: export it with Ultralytics or model.export": "there are none",
    "`OTEL_EXPORTER_OTLP_ENDPOINT` is set, so the extra 'otel' must be installed": "there is none",
}
SENTENCES_IN = ("events", "function", "knative", "local", "monitor")


def parsed(room: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / room).rglob("*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def positional(tree: ast.Module) -> Iterator[str]:
    """Name the frozen dataclasses of a module with many fields, and none of them by name alone."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        fields = [
            part
            for part in node.body
            if isinstance(part, ast.AnnAssign) and "ClassVar" not in ast.unparse(part.annotation)
        ]
        made = " ".join(map(ast.unparse, node.decorator_list))
        if len(fields) > MAX_POSITIONAL and "frozen=True" in made and "kw_only=True" not in made:
            yield node.name


def sentences(tree: ast.AST) -> Iterator[str]:
    """Yield each text that a module puts together, a value in it as `{…}`."""
    if isinstance(tree, ast.JoinedStr):
        parts = (p.value if isinstance(p, ast.Constant) else "{…}" for p in tree.values)
        yield "".join(map(str, parts))
    elif isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        yield tree.value
    else:
        # A docstring and a help text are not raised.
        for child in ast.iter_child_nodes(tree):
            if not isinstance(child, ast.Expr) or not isinstance(child.value, ast.Constant):
                yield from sentences(child)


def raised(tree: ast.Module) -> Iterator[str]:
    """Yield each sentence that a module assigns to `msg` or gives to what it raises."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "msg":
            yield from sentences(node.value)
        elif (
            isinstance(node, ast.Raise | ast.Return)
            and isinstance(call := value_of(node), ast.Call)
            and re.search("Error|Invalid|Forbidden", ast.unparse(call.func))
        ):
            yield from (text for part in call.args for text in sentences(part))


def value_of(node: ast.Raise | ast.Return) -> ast.expr | None:
    return node.exc if isinstance(node, ast.Raise) else node.value


# An earlier result or a planogram, and a row of the outbox: made in two places each.
STILL_POSITIONAL = {"Reference", "OutgoingEvent"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_frozen_dataclass_of_many_fields_takes_them_by_name(room: str) -> None:
    assert [f"{path}: {name}" for path, tree in parsed(room) for name in positional(tree)] == []


@pytest.mark.parametrize(
    ("fields", "decorator", "found"),
    [
        ("a: int", "@dataclass(frozen=True)", []),
        ("a: int; b: int; c: int; d: ClassVar[int] = 0", "@dataclass(frozen=True)", []),
        ("a: int; b: int; c: int; d: int", "@dataclass(frozen=True)", ["Found"]),
        ("a: int; b: int; c: int; d: int", "@dataclass(frozen=True, kw_only=True)", []),
    ],
)
def test_a_dataclass_by_position_is_seen(fields: str, decorator: str, found: list[str]) -> None:
    assert list(positional(ast.parse(f"{decorator}\nclass Found:\n    {fields}"))) == found


def test_what_something_must_be_is_said_with_what_it_was() -> None:
    short = [
        text
        for room in SENTENCES_IN
        for _, tree in parsed(room)
        for text in raised(tree)
        if " must " in text and ", got " not in text
    ]
    assert sorted(short) == sorted(WITHOUT_VALUE)


@pytest.mark.parametrize("room", SENTENCES_IN)
def test_no_sentence_says_what_it_was_before_what_it_must_be(room: str) -> None:
    before = re.compile(r"^\S+ is \{…\}, not|^\S+ is not set$")
    assert [text for _, tree in parsed(room) for text in raised(tree) if before.search(text)] == []


def test_every_sentence_of_a_setting_names_it_and_both() -> None:
    """As "`STEPS` must be rising percentages up to 100, got '5'"."""
    for room in ("events", "function", "knative", "monitor"):
        for path, tree in parsed(room):
            if path.endswith(("/config.py", "/settings.py")):
                for text in raised(tree):
                    named = re.match(r"(`[\w{…}]+`|\{…\}) must .+, got |STORES: ", text)
                    assert named, f"{path}: {text}"


WITHOUT_REASON = re.compile(r"#\s*type: ignore(?!\[[a-z,-]+\]  # \w)")


@pytest.mark.parametrize(
    ("comment", "silent"),
    [
        ("# type: " + "ignore", True),
        ("# type: " + "ignore[misc]", True),
        ("# type: ignore[misc]  # gunicorn has no types", False),
    ],
)
def test_an_ignore_without_a_reason_is_seen(comment: str, silent: bool) -> None:
    assert bool(WITHOUT_REASON.search(comment)) == silent


def test_each_ignore_of_a_type_has_its_reason_beside_it() -> None:
    """As "# type: ignore[misc]  # gunicorn has no types"."""
    silent = [
        f"{path}:{number}: {line.strip()}"
        for room in (*ROOMS, "tests")
        for path in sorted((ROOT / room).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if WITHOUT_REASON.search(line)
    ]
    assert silent == []
