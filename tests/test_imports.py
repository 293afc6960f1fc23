"""What an import costs, and in which direction imports point."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import recode_rl

PACKAGE = Path(recode_rl.__file__).parent
HEAVY = (
    *("torch", "transformers", "trl", "datasets", "accelerate", "sklearn", "scipy", "matplotlib", "pandas", "gguf"),
    *("sympy", "math_verify"),
    *("verl", "ray", "hydra", "omegaconf", "pyarrow"),
)

# A module of the package, by its first name, and the floor it is on. Imports point to the same floor or down.
FLOORS = {
    "types": 0,
    "errors": 0,
    "completion": 1,
    "prompts": 1,
    "jsonl": 1,
    "config": 1,
    "extras": 1,
    "progress": 1,
    "interrupts": 1,
    "waiting": 1,
    "statistics": 1,
    "sandbox": 2,
    "models": 2,
    "asking": 2,
    "cleaning": 1,
    "quick": 2,
    "training": 2,
    "adapters": 2,
    "grading": 3,
    "scorer": 3,
    "sampling": 3,
    "chat": 2,
    "serving": 2,
    "pairs": 3,
    "problems": 3,
    "reward": 4,
    "monitor": 4,
    "crpl": 5,
    "reward_model": 5,
    "policy": 5,
    "lcb_rb": 5,
    "evals": 5,
    "report": 5,
    "quickstart": 6,
    "ablations": 6,
    "doctor": 6,
    "cli": 7,
    "__main__": 8,
}
STAGES = {"crpl", "reward_model", "policy", "lcb_rb", "evals", "report"}

# Imports at the top of a module that break a rule, with the reason why they are allowed to.
ALLOWED = {
    ("config", "reward"): "recipes are refused where the rule has no such name; reward is arithmetic over types, and "
    "imports nothing but types, errors and completion",
}


@dataclass(frozen=True, slots=True)
class Import:
    """One import of a module of ours at the top of another: `importer` is a path, `imported` a first name."""

    importer: str
    imported: str

    @property
    def home(self) -> str:
        """The first name of the module that imports."""
        return self.importer.split("/")[0]


def top_level_imports(path: Path) -> Iterator[Import]:
    """Imports of our own modules that run when the module is imported; those inside functions do not."""
    importer = path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")
    for name in imported_names(ast.parse(path.read_text(encoding="utf-8"))):
        head, _, rest = name.partition(".")
        if head == "recode_rl" and rest:
            yield Import(importer, rest.split(".")[0])


def imported_names(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports name the whole path of a module"
            # "from recode_rl import jsonl" names a module in its list, "from recode_rl.jsonl import read" does not
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        else:
            yield from imported_names(child)


def all_imports() -> list[Import]:
    # programs and files inside the package's data are not modules of ours
    modules = [path for path in sorted(PACKAGE.rglob("*.py")) if "data" not in path.relative_to(PACKAGE).parts]
    assert len(modules) > 30
    return [found for path in modules for found in top_level_imports(path) if found.imported in FLOORS]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)


# -- what an import costs ----------------------------------------------------------------------------------------------


def loaded_after(code: str) -> set[str]:
    """The first names of all modules that are loaded after `code` has run in a Python of its own."""
    report = "import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    return set(json.loads(run_python(f"{code}\n{report}").stdout.splitlines()[-1]))


def test_importing_the_package_loads_next_to_nothing() -> None:
    assert not loaded_after("import recode_rl") & {*HEAVY, "numpy", "pydantic", "typer", "rich"}


def test_help_loads_nothing_heavy() -> None:
    code = """
import sys
sys.argv = ["recode-rl", "--help"]
from recode_rl.cli import main
try:
    main()
except SystemExit as end:
    assert end.code in (0, None), end.code
"""
    found = loaded_after(code)
    assert "typer" in found
    assert not found & {*HEAVY, "numpy", "pydantic"}


def test_no_module_loads_anything_heavy_when_it_is_imported() -> None:
    """Not even those that train: what is heavy is imported by the function that needs it."""
    names = sorted(
        "recode_rl." + path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for path in PACKAGE.rglob("*.py")
        if path.name != "__main__.py" and "data" not in path.relative_to(PACKAGE).parts
    )
    assert "recode_rl.policy.trl" in names
    found = loaded_after("import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in names))
    assert not found & set(HEAVY)


def test_grading_works_where_the_extras_are_not_installed() -> None:
    """The core does without the extras: with every heavy module blocked, a program is graded."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({(*HEAVY, 'jinja2')!r}))"
    code = f"""
{blocked}
from recode_rl.grading import Grader
from recode_rl.types import Problem, Tests
problem = Problem("p", "x", Tests("asserts", entry_point="f", asserts=("assert f(2) == 4",)))
with Grader(workers=1) as grader:
    print(grader.grade(problem, "def f(x): return x * x").status)
"""
    assert run_python(code).stdout.split() == ["passed"]


def test_a_missing_extra_is_one_sentence_with_the_command() -> None:
    code = """
import sys
sys.modules["torch"] = None
from recode_rl.errors import MissingExtraError
from recode_rl.extras import need
try:
    need("torch", "train")
except MissingExtraError as error:
    print(error)
"""
    assert run_python(code).stdout.strip() == 'torch is not installed; run: pip install "recode-rl[train]"'


def test_an_extra_that_is_broken_inside_is_not_called_missing() -> None:
    code = """
import pathlib, sys, tempfile
from recode_rl.extras import need
folder = pathlib.Path(tempfile.mkdtemp())
(folder / "brokenlib.py").write_text("import something_else_that_is_missing")
sys.path.insert(0, str(folder))
try:
    need("brokenlib", "train")
except ModuleNotFoundError as error:
    print(type(error).__name__, error.name)
"""
    assert run_python(code).stdout.split() == ["ModuleNotFoundError", "something_else_that_is_missing"]


# -- in which direction imports point ----------------------------------------------------------------------------------


def test_every_module_has_a_floor() -> None:
    names = {path.stem if path.is_file() else path.name for path in PACKAGE.iterdir()}
    names = {name for name in names if (PACKAGE / f"{name}.py").exists() or (PACKAGE / name / "__init__.py").exists()}
    assert names - {"__init__"} <= set(FLOORS)


def test_imports_point_downward_only() -> None:
    upward = {
        (found.importer, found.imported)
        for found in all_imports()
        if found.home != found.imported and FLOORS[found.home] < FLOORS[found.imported]
    }
    assert upward == {pair for pair in ALLOWED if pair[1] not in STAGES}


def test_stages_do_not_import_each_other() -> None:
    sideways = {
        (found.importer, found.imported)
        for found in all_imports()
        if {found.home, found.imported} <= STAGES and found.home != found.imported
    }
    assert sideways == {pair for pair in ALLOWED if pair[1] in STAGES}


def test_there_is_no_circle_of_imports() -> None:
    needs: dict[str, set[str]] = {name: set() for name in FLOORS}
    for found in all_imports():
        if found.home != found.imported:
            needs[found.home].add(found.imported)
    while free := {name for name, wanted in needs.items() if not wanted}:
        needs = {name: wanted - free for name, wanted in needs.items() if name not in free}
    assert not needs


def test_the_sandbox_knows_nothing_of_problems_and_rewards() -> None:
    known = {found.imported for found in all_imports() if found.home == "sandbox"}
    assert known <= {"sandbox", "errors", "types"}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("from recode_rl import jsonl, models", ["recode_rl.jsonl", "recode_rl.models"]),
        ("import recode_rl.jsonl", ["recode_rl.jsonl"]),
        ("try:\n    from recode_rl.crpl.pairs import x\nexcept E:\n    pass", ["recode_rl.crpl.pairs.x"]),
        ("class A:\n    from recode_rl.evals import run", ["recode_rl.evals.run"]),
        ("def f():\n    from recode_rl.evals import run", []),
    ],
)
def test_the_reader_of_imports_sees_what_runs_at_import(source: str, names: list[str]) -> None:
    assert list(imported_names(ast.parse(source))) == names
