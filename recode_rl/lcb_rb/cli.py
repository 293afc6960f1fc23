"""The verbs of `recode-rl lcb-rb`: options in, one function call, one line of summary out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from recode_rl.errors import InfrastructureError

if TYPE_CHECKING:
    from recode_rl.lcb_rb.checking import Judges
    from recode_rl.lcb_rb.records import Decision

app = typer.Typer(
    help="LCB-RB: a benchmark of reasoning pairs of your own: sample, check, adjudicate, build; and its statistics.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object on stdout.")]
ProblemsOption = Annotated[Path, typer.Option("--problems", help="problems.jsonl")]
TimeoutOption = Annotated[float, typer.Option(min=1, help="Seconds that one request may take.")]
SamplesOption = Annotated[Path, typer.Option("--samples", help="samples.jsonl")]
DecisionsOption = Annotated[
    list[Path], typer.Option("--decisions", help="decisions.jsonl; again for more, as one of each annotator.")
]
AnnotatorsOption = Annotated[int, typer.Option(min=1, help="Decisions that a sample needs.")]


def _end(as_json: bool, line: str, values: dict[str, Any]) -> None:
    from recode_rl import cli

    cli._summary(as_json, line, values)


def _beside(out: Path, given: Path | None, name: str) -> Path:
    return out.with_name(name) if given is None else given


@app.command(
    epilog="Examples: recode-rl lcb-rb sample --problems p.jsonl --model Qwen/Qwen2.5-Coder-0.5B-Instruct --n 8 "
    "--out runs/lcb/samples.jsonl | recode-rl lcb-rb sample --problems p.jsonl --endpoint http://localhost:8080/v1 "
    "--model NAME --out runs/lcb/samples.jsonl"
)
def sample(
    problems: ProblemsOption,
    model: Annotated[str, typer.Option(help="Known name, checkpoint folder or hub id; its name at the endpoint.")],
    out: Annotated[Path, typer.Option(help="samples.jsonl to write; what is there is kept.")],
    endpoint: Annotated[
        str | None, typer.Option(help="OpenAI-compatible url; without one the model runs here.")
    ] = None,
    verdicts: Annotated[Path | None, typer.Option(help="verdicts.jsonl to write; default: beside --out.")] = None,
    n: Annotated[int, typer.Option(min=1, help="Samples a problem.")] = 50,
    temperature: Annotated[float, typer.Option(min=0.0)] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1)] = 2048,
    batch: Annotated[int, typer.Option(min=1, help="Samples at a time, or requests.")] = 16,
    workers: Annotated[int | None, typer.Option(min=1, help="Programs at a time; default: one per core.")] = None,
    prompt: Annotated[
        Literal["think_answer", "think_answer_shown"],
        typer.Option(help="think_answer_shown: behind a problem with its answer, for small models."),
    ] = "think_answer",
    seed: int = 0,
    as_json: JsonOption = False,
) -> None:
    """Many completions of every problem, graded: the raw material of the benchmark."""
    from recode_rl.evals import grading
    from recode_rl.grading import Grader
    from recode_rl.problems.records import load_problems
    from recode_rl.sampling import SamplingSettings, draw, open_model

    loaded = load_problems(problems)
    settings = SamplingSettings(n, temperature, 1.0, max_tokens, batch, seed, prompt)
    made = draw(partial(open_model, model, endpoint, settings), loaded, settings, out, "sampling", model)
    target = _beside(out, verdicts, "verdicts.jsonl")
    with Grader(workers=workers) as grader:
        graded = grading.grade_samples(loaded, made, target, grader)
        grading.write_manifest(target, grader)
    values = grading.summary(graded)
    _end(as_json, f"{out}: {values['samples']} samples, {values['passed']} passed ({target})", values)
    if values["not_graded"]:
        raise InfrastructureError(f"{len(values['not_graded'])} samples were not graded; run the same command again")


@app.command(
    epilog="Example: recode-rl lcb-rb check --problems p.jsonl --samples samples.jsonl --verdicts verdicts.jsonl "
    "--endpoint http://localhost:8080/v1 --model NAME --per-side 3 --out judgements.jsonl"
)
def check(
    problems: ProblemsOption,
    samples: SamplesOption,
    verdicts: Annotated[Path, typer.Option(help="verdicts.jsonl; the judge never sees it.")],
    model: Annotated[str, typer.Option(help="The judge: its name at the endpoint, or a model that runs here.")],
    out: Annotated[Path, typer.Option(help="judgements.jsonl to write; replies that are there are kept.")],
    endpoint: Annotated[
        str | None, typer.Option(help="OpenAI-compatible url; without one the judge runs here.")
    ] = None,
    candidates: Annotated[Path | None, typer.Option(help="candidates.jsonl to write; default: beside --out.")] = None,
    per_side: Annotated[
        int | None, typer.Option(min=1, help="Candidates of a side of a problem; default: all.")
    ] = None,
    one_sided: Annotated[
        bool, typer.Option("--one-sided", help="Keep problems where the judge found one side alone.")
    ] = False,
    prompts: Annotated[Path | None, typer.Option(help="Folder with a check.txt of your own.")] = None,
    attempts: Annotated[int, typer.Option(min=1, help="Tries for a reply that can be read.")] = 3,
    temperature: Annotated[float, typer.Option(min=0.0, help="Of the first try; further ones take 0.7 or more.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(min=1)] = 1024,
    timeout: TimeoutOption = 300,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time; here: the batch.")] = 8,
    max_requests: Annotated[int | None, typer.Option(min=1, help="Stop after so many requests.")] = None,
    seed: int = 0,
    as_json: JsonOption = False,
) -> None:
    """A judge says of every sample: is the reasoning flawed, does the program follow it? And candidates for people."""
    from recode_rl.lcb_rb.stage import Checking, check_file

    job = Checking(
        problems=problems,
        samples=samples,
        verdicts=verdicts,
        out=out,
        candidates=_beside(out, candidates, "candidates.jsonl"),
        prompts=prompts,
        model=model,
        attempts=attempts,
        per_side=per_side,
        one_sided=one_sided,
        seed=seed,
    )
    judges = _judges(endpoint, model, temperature, max_tokens, timeout, concurrency, max_requests, seed)
    values = check_file(job, judges)
    counts = ", ".join(f"{count} {name}" for name, count in values["judgements"].items())
    _end(as_json, f"{out}: {counts}; {values['candidates']} candidates of {values['problems']} problems", values)
    if values["not_judged"]:
        names = ", ".join(values["not_judged"][:5])
        raise InfrastructureError(
            f"{len(values['not_judged'])} samples were not judged ({names}): {values['first_failure']}; run the same "
            "command again"
        )


def _judges(
    endpoint: str | None,
    model: str,
    temperature: float,
    max_tokens: int,
    timeout: float,
    concurrency: int,
    max_requests: int | None,
    seed: int,
) -> Judges:
    """The judge behind an endpoint or in this process. Tries after the first are drawn: the first has failed."""

    def heat(attempt: int) -> float:
        return temperature if attempt == 0 else max(temperature, 0.7)

    if endpoint is not None:
        from recode_rl.chat import Budget, ChatClient, ChatSettings

        budget, url = Budget(max_requests), endpoint
        return lambda attempt: ChatClient(
            ChatSettings(
                url=url,
                model=model,
                concurrency=concurrency,
                temperature=heat(attempt),
                max_tokens=max_tokens,
                timeout_s=timeout,
                seed=seed + attempt,
            ),
            budget=budget,
        )
    from recode_rl.lcb_rb.local_judge import LocalJudge
    from recode_rl.sampling import LocalModel, SamplingSettings

    loaded = LocalModel.load(model)
    return lambda attempt: LocalJudge(
        loaded,
        SamplingSettings(temperature=heat(attempt), max_tokens=max_tokens, batch=concurrency),
        seed=1_000_003 * attempt + seed,
    )


@app.command(
    epilog="Examples: recode-rl lcb-rb adjudicate --db runs/lcb/adjudication.sqlite --problems p.jsonl "
    "--samples samples.jsonl --candidates candidates.jsonl --annotator ada --annotator bo --resolver team | "
    "recode-rl lcb-rb adjudicate --db runs/lcb/adjudication.sqlite --export decisions.jsonl"
)
def adjudicate(
    db: Annotated[Path, typer.Option(help="SQLite file of the decisions; made where it is not there.")],
    problems: Annotated[Path | None, typer.Option(help="problems.jsonl, with --samples: what to add.")] = None,
    samples: Annotated[Path | None, typer.Option(help="samples.jsonl, with --problems: what to add.")] = None,
    candidates: Annotated[Path | None, typer.Option(help="candidates.jsonl: only these samples.")] = None,
    annotator: Annotated[list[str] | None, typer.Option(help="Name of an annotator; again for each.")] = None,
    resolver: Annotated[str | None, typer.Option(help="Name under which disagreements are resolved.")] = None,
    host: Annotated[
        str, typer.Option(help="Address; on others than loopback everyone needs their link.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8400,
    token: Annotated[bool, typer.Option("--token", help="Ask for the links on loopback too.")] = False,
    import_file: Annotated[
        list[Path] | None,
        typer.Option("--import", help="decisions.jsonl to take over, without a page; again for more."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="With --import: the file wins over what is there.")
    ] = False,
    export: Annotated[Path | None, typer.Option(help="decisions.jsonl to write, without a page.")] = None,
    as_json: JsonOption = False,
) -> None:
    """A page in the browser where two or more people decide, blind to each other, and then resolve disagreements."""
    from recode_rl.lcb_rb import adjudication
    from recode_rl.lcb_rb.candidates import load_candidates
    from recode_rl.lcb_rb.store import Store
    from recode_rl.problems.records import load_problems
    from recode_rl.sampling import load_samples

    if (problems is None) != (samples is None):
        raise typer.BadParameter("give --problems and --samples together")
    with Store(db) as store:
        values: dict[str, Any] = {"db": str(db)}
        if problems is not None and samples is not None:
            wanted = None if candidates is None else [one.key for one in load_candidates(candidates)]
            values["samples"] = adjudication.add_samples(store, load_problems(problems), load_samples(samples), wanted)
        if import_file:
            values["imported"] = adjudication.take_decisions(store, import_file, replace)
        if export is not None:
            values["exported"] = adjudication.give_decisions(store, export)
        if import_file or export is not None:
            values |= adjudication.overview(store)
        else:
            opening = adjudication.Opening(host, port, token, tuple(annotator or ()), resolver)
            values |= adjudication.serve(store, opening)
    people = ", ".join(f"{name} {one['decided']} of {one['of']}" for name, one in values["people"].items())
    _end(as_json, f"{db}: {values['items']} items; {people}", values)


@app.command(epilog="Example: recode-rl lcb-rb stats --decisions decisions.jsonl --judgements judgements.jsonl --json")
def stats(
    decisions: DecisionsOption,
    judgements: Annotated[Path | None, typer.Option(help="judgements.jsonl: the judge beside people.")] = None,
    annotators: AnnotatorsOption = 2,
    as_json: JsonOption = False,
) -> None:
    """Cohen's κ with intervals by question and pair of annotators, tables of confusion, the judge against people."""
    from recode_rl.lcb_rb.agreement import summarise
    from recode_rl.lcb_rb.records import load_judgements
    from recode_rl.lcb_rb.words import stats_lines

    loaded = _decisions(decisions)
    values = summarise(loaded, None if judgements is None else load_judgements(judgements), annotators)
    _end(as_json, "\n".join(stats_lines(values)), values)


def _decisions(paths: list[Path]) -> list[Decision]:
    from recode_rl.lcb_rb.records import load_all_decisions

    return load_all_decisions(paths)


@app.command(
    epilog="Example: recode-rl lcb-rb build --problems p.jsonl --samples samples.jsonl --decisions decisions.jsonl "
    "--judgements judgements.jsonl --verdicts verdicts.jsonl --out runs/lcb/benchmark"
)
def build(
    problems: ProblemsOption,
    samples: SamplesOption,
    decisions: DecisionsOption,
    out: Annotated[Path, typer.Option(help="Folder for pairs.jsonl, README.md (the data card) and manifest.json.")],
    judgements: Annotated[Path | None, typer.Option(help="judgements.jsonl: how often it was overruled.")] = None,
    verdicts: Annotated[Path | None, typer.Option(help="verdicts.jsonl: which sides passed.")] = None,
    annotators: AnnotatorsOption = 2,
    reserve: Annotated[str, typer.Option(help="Dates kept out, FROM..TO, or none.")] = "2024-10-01..2025-02-28",
    statements: Annotated[
        Literal["keep", "omit"], typer.Option(help="omit leaves statements out of pairs.jsonl; see fill.")
    ] = "keep",
    title: Annotated[str, typer.Option(help="Title of the data card.")] = "A benchmark of reasoning pairs",
    note: Annotated[str | None, typer.Option(help="Your paragraph in the data card: who decided, and how.")] = None,
    seed: int = 0,
    as_json: JsonOption = False,
) -> None:
    """Pairs of a sound and a flawed reasoning of one problem, their data card, and blind baselines on them."""
    from recode_rl.lcb_rb.stage import Building, build_files, read_reserve
    from recode_rl.reward_model.baselines import run_baselines

    job = Building(
        problems=problems,
        samples=samples,
        decisions=tuple(decisions),
        out=out,
        judgements=judgements,
        verdicts=verdicts,
        annotators=annotators,
        reserved=read_reserve(reserve),
        statements=statements == "keep",
        title=title,
        note=note or "",
        seed=seed,
    )
    values = build_files(job, run_baselines)
    best = max(values["baselines"], key=lambda name: values["baselines"][name]["accuracy"])
    accuracy = values["baselines"][best]["accuracy"]
    line = f"{out}: {values['pairs']} pairs of {values['problems']} problems; best blind baseline {best} {accuracy:.3f}"
    _end(as_json, line, values)


@app.command(epilog="Example: recode-rl lcb-rb fill --pairs pairs.jsonl --problems p.jsonl --out filled.jsonl")
def fill(
    pairs: Annotated[Path, typer.Option(help="pairs.jsonl that was built with --statements omit.")],
    problems: ProblemsOption,
    out: Annotated[Path, typer.Option(help="pairs.jsonl to write, as eval-rm reads it.")],
    as_json: JsonOption = False,
) -> None:
    """Put the statements of problems back into pairs that were passed on without them."""
    from recode_rl.lcb_rb.building import fill as fill_in
    from recode_rl.problems.records import load_problems

    count = fill_in(pairs, load_problems(problems), out)
    _end(as_json, f"{out}: {count} pairs", {"pairs": count, "out": str(out)})


@app.command(
    epilog="Examples: recode-rl lcb-rb correlation --table 3133 8376 5051 16586 --json | "
    "recode-rl lcb-rb correlation --judgements judgements.jsonl --verdicts verdicts.jsonl --decisions decisions.jsonl"
)
def correlation(
    records: Annotated[Path | None, typer.Option(help='Lines of {"problem_id", "judgement", "passed"}.')] = None,
    table: Annotated[
        tuple[int, int, int, int] | None,
        typer.Option(help="Counts: sound passed, sound failed, flawed passed, flawed failed."),
    ] = None,
    judgements: Annotated[Path | None, typer.Option(help="judgements.jsonl, with --verdicts.")] = None,
    verdicts: Annotated[Path | None, typer.Option(help="verdicts.jsonl, with --judgements.")] = None,
    decisions: Annotated[
        list[Path] | None, typer.Option(help="decisions.jsonl of a sample: how far the judge can be trusted.")
    ] = None,
    annotators: AnnotatorsOption = 2,
    seed: int = 0,
    as_json: JsonOption = False,
) -> None:
    """Does the quality of a reasoning go with the correctness of its program? χ², p, odds ratio, Cramér's V."""
    from recode_rl.lcb_rb.stage import correlate_files
    from recode_rl.lcb_rb.words import correlation_lines

    given = [records is not None, table is not None, judgements is not None or verdicts is not None]
    if sum(given) != 1 or (judgements is None) != (verdicts is None):
        raise typer.BadParameter("give one of --records, --table, or --judgements with --verdicts")
    if decisions and judgements is None:
        raise typer.BadParameter("--decisions goes with --judgements: they say how reliable the judge is")
    values = correlate_files(records, table, judgements, verdicts, decisions or [], annotators, seed)
    _end(as_json, "\n".join(correlation_lines(values)), values)
