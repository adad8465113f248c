"""What tests/faults puts in the place of a function takes what that function takes."""

import importlib
import inspect
import runpy
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from conftest import ROOT

HOOK = ROOT / "tests" / "faults" / "launch" / "sitecustomize.py"
PATCHES = [
    pytest.param(module, apply, id=f"{module}: {name}")
    for module, patches in runpy.run_path(str(HOOK))["PATCHES"].items()
    for name, apply in patches
]
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def attributes_of(module: ModuleType) -> list[tuple[Any, dict[str, Any]]]:
    """List what the module and its own classes have now."""
    classes = [of for of in vars(module).values() if inspect.isclass(of)]
    own = [of for of in classes if of.__module__ == module.__name__]
    return [(of, dict(vars(of))) for of in (module, *own)]


@pytest.fixture
def unpatched(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """Give a module, and put back whatever the test does to it."""
    module = importlib.import_module(request.param)
    before = attributes_of(module)
    yield module
    for of, attributes in before:
        for name, value in attributes.items():
            if vars(of)[name] is not value:
                setattr(of, name, value)


@pytest.mark.parametrize(("unpatched", "apply"), PATCHES, indirect=["unpatched"])
def test_a_patch_takes_what_it_replaces(
    unpatched: ModuleType, apply: Callable[[Any], None]
) -> None:
    before = attributes_of(unpatched)
    apply(unpatched)
    changed = [
        (value, vars(of)[name])
        for of, attributes in before
        for name, value in attributes.items()
        if vars(of)[name] is not value
    ]
    assert changed
    for old, new in changed:
        if callable(old):
            parameters = inspect.signature(old).parameters.values()
            inspect.signature(new).bind(*[None for each in parameters if each.kind in POSITIONAL])


def test_a_patch_that_lacks_an_argument_is_seen() -> None:
    module = ModuleType("module")
    module.run = lambda session, tensor: tensor  # type: ignore[attr-defined]  # a module of this test alone

    def apply(of: Any) -> None:
        of.run = lambda tensor: tensor

    with pytest.raises(TypeError, match="too many positional"):
        test_a_patch_takes_what_it_replaces(module, apply)
