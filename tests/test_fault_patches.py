"""What tests/faults puts in the place of a function takes what that function takes."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import ROOT

HOOK = ROOT / "tests" / "faults" / "launch" / "sitecustomize.py"


def load_patches(path: Path) -> dict[str, list[tuple[str, Callable[[Any], None]]]]:
    spec = importlib.util.spec_from_file_location("fault_patches", path)
    assert spec
    assert spec.loader
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    patches: dict[str, list[tuple[str, Callable[[Any], None]]]] = hook.PATCHES
    return patches


PATCHES = [
    pytest.param(module, apply, id=f"{module}: {name}")
    for module, patches in load_patches(HOOK).items()
    for name, apply in patches
]


def holders(module: ModuleType) -> list[Any]:
    """List the module and its own classes."""
    own = [of for of in vars(module).values() if inspect.isclass(of)]
    return [module, *(of for of in own if of.__module__ == module.__name__)]


@pytest.fixture
def unpatched(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """Give a module, and put back whatever the test does to it."""
    module = importlib.import_module(request.param)
    before = [(of, dict(vars(of))) for of in holders(module)]
    yield sys.modules[module.__name__]
    for of, attributes in before:
        for name, value in attributes.items():
            if vars(of)[name] is not value:
                setattr(of, name, value)


@pytest.mark.parametrize(("unpatched", "apply"), PATCHES, indirect=["unpatched"])
def test_a_patch_takes_what_it_replaces(
    unpatched: ModuleType, apply: Callable[[Any], None]
) -> None:
    before = [(of, dict(vars(of))) for of in holders(unpatched)]
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


POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def test_a_patch_that_lacks_an_argument_is_seen() -> None:
    module = ModuleType("module")
    module.run = lambda session, tensor: tensor  # type: ignore[attr-defined]  # a module of this test alone

    def apply(of: Any) -> None:
        of.run = lambda tensor: tensor

    with pytest.raises(TypeError, match="too many positional"):
        test_a_patch_takes_what_it_replaces(module, apply)
