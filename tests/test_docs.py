"""The documentation says what the code does: commands, options, recipe keys, links, paths and the annotated tree."""

from __future__ import annotations

import inspect
import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from recode_rl import __version__, config
from recode_rl.ablations import config as ablation_config
from recode_rl.cli import app
from recode_rl.crpl import config as synthesis_config
from recode_rl.reward import rule_names

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("recode_rl/**/*.md")})
CARD = ROOT / "recode_rl" / "problems" / "starter" / "README.md"
CONFIGS = list(
    dict.fromkeys(
        kind
        for kind in (*vars(config).values(), *vars(synthesis_config).values(), *vars(ablation_config).values())
        if isinstance(kind, type) and issubclass(kind, config.Strict) and kind is not config.Strict
    )
)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The text of a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> list[str]:
    """The fenced blocks of a page."""
    return re.findall(r"^```\w*\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def sections(page: Path) -> dict[str, str]:
    """Text by second-level heading."""
    parts = re.split(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text: str) -> dict[str, list[str]]:
    """The cells of every table row by its first one, where that is code."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| `"):
            assert cells[0] not in found, f"two rows {cells[0]}"
            found[cells[0]] = cells[1:]
    return found


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command below a group by its words. (Any: newer releases of typer carry their own copy of click.)"""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(path), command
        return
    for name, child in inner.items():
        yield from leaves(child, (*path, name))


COMMANDS = dict(leaves(typer.main.get_command(app)))


def options(command: Any) -> set[str]:
    """Every way to write an option, without --help, which all have."""
    return {
        text
        for parameter in command.params
        if parameter.param_type_name == "option"
        for text in (*parameter.opts, *parameter.secondary_opts)
    } - {"--help", "-h"}


# Commands


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    documented = {heading.strip("`") for heading in sections(ROOT / "docs" / "commands.md")}
    assert documented == {f"recode-rl {verb}" for verb in COMMANDS}


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_options_of_a_command_are_those_of_its_table(verb: str) -> None:
    table = rows(sections(ROOT / "docs" / "commands.md")[f"`recode-rl {verb}`"])
    documented = {option for cell in table for option in re.findall(r"`(--[\w-]+)`", cell)}
    assert documented == options(COMMANDS[verb])


@pytest.mark.parametrize("verb", COMMANDS)
def test_defaults_and_choices_of_options_are_in_the_table(verb: str) -> None:
    table = rows(sections(ROOT / "docs" / "commands.md")[f"`recode-rl {verb}`"])
    types = get_type_hints(inspect.unwrap(COMMANDS[verb].callback))
    for parameter in COMMANDS[verb].params:
        if parameter.param_type_name != "option" or parameter.opts[0] in ("--help", "--json"):
            continue
        (default, meaning) = next(cells for cell, cells in table.items() if f"`{parameter.opts[0]}`" in cell)
        if parameter.required:
            assert default == "required", parameter.opts
        elif isinstance(parameter.default, (str, int, float, Path)) and not isinstance(parameter.default, bool):
            shown = default.strip("`")
            number = isinstance(parameter.default, (int, float))
            assert (float(shown) if number else shown) == (parameter.default if number else str(parameter.default))
        for choice in choices_of(types[parameter.name]):
            assert f"`{choice}`" in default + meaning, (parameter.opts, choice)


@pytest.mark.parametrize("verb", COMMANDS)
def test_arguments_of_a_command_are_named(verb: str) -> None:
    text = sections(ROOT / "docs" / "commands.md")[f"`recode-rl {verb}`"]
    for parameter in COMMANDS[verb].params:
        if parameter.param_type_name == "argument":
            words = ("key.path=value",) if parameter.name == "overrides" else (f"`{str(parameter.name).upper()}`",)
            assert any(word in text for word in words), parameter.name


def examples() -> list[tuple[str, str]]:
    """Every line that calls the command, on any page, in a recipe's comments, or in the help pages."""
    lines = [(name_of(page), line) for page in PAGES for block in blocks(page) for line in block.splitlines()]
    lines += [
        (path.name, line.lstrip("# "))
        for path in sorted((ROOT / "recipes").rglob("*.toml"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    for verb, command in COMMANDS.items():
        shown = re.sub(r"^Examples?: ", "", command.epilog or "")
        lines += [(f"{verb} --help", part.strip()) for part in shown.split("|")]
    return [(where, re.split(r"\s{3,}", line)[0]) for where, line in lines if line.startswith("recode-rl ")]


@pytest.mark.parametrize(("where", "line"), examples())
def test_the_command_line_of_an_example_can_be_parsed(where: str, line: str) -> None:
    words = shlex.split(line)[1:]
    verb = next(name for name in COMMANDS if words[: len(name.split())] == name.split())
    COMMANDS[verb].make_context(verb, words[len(verb.split()) :])  # a UsageError where an option is unknown or missing


def test_there_are_examples_of_every_command_on_its_page() -> None:
    text = sections(ROOT / "docs" / "commands.md")
    assert all(f"\nrecode-rl {verb}" in text[f"`recode-rl {verb}`"] for verb in COMMANDS)


# Recipes


def section_of(kind: type[config.Strict]) -> str:
    by_heading = sections(ROOT / "docs" / "recipes.md")
    (found,) = [text for heading, text in by_heading.items() if f"`{kind.__name__}`" in heading]
    return found


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_keys_of_a_config_class_are_those_of_its_table(kind: type[config.Strict]) -> None:
    assert list(rows(section_of(kind))) == [f"`{name}`" for name in kind.model_fields]


@pytest.mark.parametrize("kind", CONFIGS)
def test_defaults_and_choices_of_keys_are_in_the_table(kind: type[config.Strict]) -> None:
    table = rows(section_of(kind))
    for name, field in kind.model_fields.items():
        shown, meaning = table[f"`{name}`"]
        assert shown_default(shown) == default_of(field), f"{kind.__name__}.{name}"
        for choice in choices_of(field.annotation):
            assert f'"{choice}"' in shown + meaning, (name, choice)


def shown_default(cell: str) -> Any:
    return tomllib.loads(f"value = {cell.strip('`')}")["value"] if cell.startswith("`") else cell


def default_of(field: FieldInfo) -> Any:
    """The default as TOML has it, or the word that the tables use."""
    table = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    if table:
        return "required table" if field.is_required() else "table"
    if field.is_required():
        return "required"
    if field.default is None:
        return "unset"
    return list(field.default) if isinstance(field.default, tuple) else field.default


def choices_of(annotation: Any) -> list[str]:
    """The texts that a key may be, where they are listed in its type."""
    if isinstance(annotation, str):
        return [annotation]
    return [choice for inner in get_args(annotation) for choice in choices_of(inner)]


def test_every_rule_is_explained() -> None:
    method = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    for rule in {name.removesuffix("+compiler") for name in rule_names()}:
        assert f"`{rule}`" in method
        assert f"`{rule}`" in section_of(config.RewardConfig)


# Links, paths, the tree


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The names that headings get on the usual hosts."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_path_that_is_named_is_there(page: Path) -> None:
    paths = re.findall(r"`((?:recode_rl|recipes|docs|tests)/[\w./-]*)`", prose(page))
    assert [path for path in paths if not (ROOT / path).exists()] == []


def tree() -> set[str]:
    """Names in the package's part of the README's annotated tree; folders end in a slash."""
    (block,) = [block for block in blocks(ROOT / "README.md") if block.startswith("recode_rl/")]
    return set(re.findall(r"^  (\S+)", block, flags=re.MULTILINE))


def test_the_tree_of_the_readme_is_the_tree_of_the_package() -> None:
    package = ROOT / "recode_rl"
    files = [path.relative_to(package) for path in package.rglob("*") if path.is_file()]
    kept = [path for path in files if "__pycache__" not in path.parts and path.suffix != ".pyc"]
    assert tree() == {path.name if len(path.parts) == 1 else f"{path.parts[0]}/" for path in kept}


# What else is stated in two places


def test_changelog_and_citation_know_the_version() -> None:
    assert __version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_data_card_counts_as_the_corpus_does() -> None:
    data_card = runpy.run_path(str(ROOT / "tools" / "data_card.py"))
    text = CARD.read_text(encoding="utf-8")
    assert data_card["contents"]() in text, "run: python tools/data_card.py"
    pytest.importorskip("sklearn", reason="the n-gram baseline needs the train extra")
    assert data_card["baselines"]() in text, "run: python tools/data_card.py"
