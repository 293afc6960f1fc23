"""The walls around a program, each tried by a program that wants through."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recode_rl import sandbox
from recode_rl.errors import SandboxError
from recode_rl.sandbox.script import ScriptRun, run_script

full_only = pytest.mark.skipif(sandbox.level().name != "full", reason="namespaces are not allowed here")
BOUNDS = sandbox.Bounds(cpu_s=2, memory_mb=512, files_mb=16, processes=16)


@pytest.fixture(scope="module")
def cell() -> Iterator[sandbox.Cell]:
    with sandbox.Cell() as made:
        yield made


@pytest.fixture(scope="module", params=[False, True], ids=["weak", "as allowed here"])
def any_cell(request: pytest.FixtureRequest) -> Iterator[sandbox.Cell]:
    with sandbox.Cell(walls=None if request.param else "none") as made:
        yield made


def run(cell: sandbox.Cell, source: str, data: bytes = b"", wall_s: float = 10, output: int = 100_000) -> ScriptRun:
    return run_script(cell, textwrap.dedent(source), data, BOUNDS, wall_s, output)


def test_script_reads_and_writes(any_cell: sandbox.Cell) -> None:
    done = run(any_cell, "import sys\nprint(sys.stdin.buffer.readline(), input())\nsys.exit(3)", b"a\nb\n")
    assert done.stdout == b"b'a\\n' b\n"
    assert (done.exit.code, done.exit.signal, done.stopped) == (3, None, None)


def test_script_is_main_and_ends_as_scripts_do(any_cell: sandbox.Cell) -> None:
    done = run(
        any_cell,
        """
        import atexit, threading, time
        atexit.register(print, "exit handler")
        threading.Thread(target=lambda: (time.sleep(0.1), print("thread"))).start()
        if __name__ == "__main__":
            print(open(0).read())
        """,
        b"whole",
    )
    assert done.stdout.split() == [b"whole", b"thread", b"exit", b"handler"]
    assert done.exit.code == 0


def test_large_input_and_output_do_not_block(cell: sandbox.Cell) -> None:
    data = b"x" * 3_000_000
    done = run(cell, "import sys\nsys.stdout.write(sys.stdin.read())", data, output=4_000_000)
    assert done.stdout == data


def test_endless_output_is_cut(any_cell: sandbox.Cell) -> None:
    done = run(any_cell, "while True: print('x' * 1000)")
    assert done.stopped == "output"
    assert len(done.stdout) == 100_000


def test_sleeping_and_spinning_are_ended(any_cell: sandbox.Cell) -> None:
    asleep = run(any_cell, "import time\ntime.sleep(60)", wall_s=0.3)
    assert asleep.stopped == "wall"
    busy = run_script(any_cell, "while True: pass", b"", sandbox.Bounds(cpu_s=1), 20, 100)
    assert busy.stopped == "cpu"
    assert busy.exit.cpu_s >= 1


def test_memory_is_limited(any_cell: sandbox.Cell) -> None:
    done = run(any_cell, "x = bytearray(2 << 30)")
    assert done.exit.code == 1
    assert done.stderr.strip().endswith(b"MemoryError")


def test_files_are_limited(cell: sandbox.Cell) -> None:
    done = run(cell, "for i in range(4):\n    open(f'f{i}', 'wb').write(bytes(8 << 20))")
    assert done.exit.code != 0


def test_background_processes_end_with_the_program(any_cell: sandbox.Cell) -> None:
    done = run(
        any_cell,
        """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(60)
            os._exit(0)
        print("parent done", flush=True)
        """,
        wall_s=20,
    )
    assert done.stdout == b"parent done\n"
    assert done.stopped is None
    assert done.wall_s < 20  # what is left holds the pipes of the run, which was waited for


@full_only
def test_fork_bomb_stays_in_its_cell(cell: sandbox.Cell) -> None:
    done = run(cell, "import os\nwhile True:\n    os.fork()", wall_s=2)
    assert done.exit.code != 0 or done.stopped == "wall"
    assert run(cell, "print(1)").stdout == b"1\n"


@full_only
def test_files_of_the_machine_cannot_be_seen(cell: sandbox.Cell, tmp_path: Path) -> None:
    secret = tmp_path / "answers.txt"
    secret.write_text("42")
    secret.chmod(0o644)
    package = Path(sandbox.__file__).parents[1]
    paths = [str(secret), str(package / "errors.py"), "/etc/passwd", "/etc/hostname", "/proc/self/environ", "/sys"]
    done = run(cell, f"import os\nprint([p for p in {paths} if os.path.exists(p)])\nprint(sorted(os.listdir('/')))")
    seen, roots = done.stdout.decode().splitlines()
    assert seen == "[]"
    assert not [name for name in ("home", "var", "mnt", "sys", "opt", "srv") if repr(name) in roots]


@full_only
def test_no_rights_no_network_no_neighbours(cell: sandbox.Cell) -> None:
    done = run(
        cell,
        """
        import ctypes, os, socket
        def attempt(name, action):
            try:
                action()
            except OSError as error:
                return
            print("got through:", name)
        libc = ctypes.CDLL(None, use_errno=True)
        def unshare(flags):
            if libc.unshare(flags): raise OSError(ctypes.get_errno())
        def mount():
            if libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None): raise OSError(ctypes.get_errno())
        attempt("uid 0", lambda: os.setuid(0))
        attempt("user namespace", lambda: unshare(0x10000000))
        attempt("mount", mount)
        attempt("write to root", lambda: open("/x", "w"))
        attempt("write to library", lambda: open(os.path.join(os.path.dirname(os.__file__), "x"), "w"))
        attempt("kill init", lambda: [os.kill(1, 9), os.stat("/absent")])
        attempt("connect", lambda: socket.create_connection(("127.0.0.1", 22), 0.2))
        attempt("parent's memory", lambda: open("/proc/1/mem"))
        open("/tmp/x", "w").close()
        print(os.getuid() != 0, os.environ.get("HOME"), sorted(set(os.environ) & {"USER", "VIRTUAL_ENV", "PWD"}))
        """,
    )
    assert done.stdout.decode().splitlines() == ["True /box []"], done


def test_nothing_is_left_for_the_next_program(any_cell: sandbox.Cell) -> None:
    run(any_cell, "open('note', 'w').write('x')\nimport sys\nsys.modules['json'].left = 1")
    done = run(any_cell, "import os, json\nprint(os.listdir('.'), hasattr(json, 'left'))")
    assert done.stdout == b"[] False\n"


def test_environment_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "s3cret")
    with sandbox.Cell() as own:
        assert b"s3cret" not in run(own, "import os\nprint(dict(os.environ))").stdout


def test_only_standard_descriptors_are_open(any_cell: sandbox.Cell) -> None:
    done = run(
        any_cell,
        """
        import os
        def is_open(fd):
            try:
                os.fstat(fd)
            except OSError:
                return False
            return True
        print([fd for fd in range(300) if is_open(fd)])
        """,
    )
    assert done.stdout == b"[0, 1, 2]\n"


def test_package_is_not_importable(any_cell: sandbox.Cell) -> None:
    done = run(any_cell, "import recode_rl.sandbox.roles")
    assert b"ModuleNotFoundError" in done.stderr


def test_numpy_is_importable_where_installed(any_cell: sandbox.Cell) -> None:
    pytest.importorskip("numpy")
    done = run(any_cell, "import numpy\nprint(numpy.arange(3).sum())", wall_s=30)
    assert done.stdout == b"3\n", done.stderr


def test_source_that_does_not_compile(any_cell: sandbox.Cell) -> None:
    assert "SyntaxError" in (run(any_cell, "def f(:").compile_error or "")
    assert run(any_cell, "x = '\x00'").compile_error
    assert run(any_cell, "(" * 5000).compile_error
    assert run(any_cell, "x = '\ud800'").compile_error


def test_exit_and_quit_are_there(any_cell: sandbox.Cell) -> None:
    assert run(any_cell, "print(1)\nexit()\nprint(2)").stdout == b"1\n"
    assert run(any_cell, "quit(4)").exit.code == 4


def test_random_numbers_differ_between_programs(cell: sandbox.Cell) -> None:
    source = "import random\nprint(random.random(), random.gauss(0, 1))"
    first, second = (run(cell, source).stdout.split() for _ in range(2))
    assert not set(first) & set(second)


def test_a_programs_own_forks_are_whole_ones(any_cell: sandbox.Cell) -> None:
    """The standard library forgets other threads and draws new random numbers there, as it does elsewhere."""
    done = run(
        any_cell,
        """
        import os, random, threading, time
        threading.Thread(target=time.sleep, args=(0.5,)).start()
        if os.fork() == 0:
            print(random.random(), threading.active_count(), flush=True)
            os._exit(0)
        os.wait()
        print(random.random(), threading.active_count(), flush=True)
        """,
    )
    (child, alone), (parent, both) = (line.split() for line in done.stdout.splitlines())
    assert (alone, both) == (b"1", b"2")
    assert child != parent


def test_killed_launcher_is_our_failure() -> None:
    own = sandbox.Cell()
    own.build()
    try:
        os.kill(own.pid, signal.SIGKILL)
        time.sleep(0.05)
        with pytest.raises(SandboxError, match="gone"):
            run(own, "print(1)")
    finally:
        own.close()


def test_level_names_what_is_missing() -> None:
    found = sandbox.level()
    assert found.name in ("full", "weak")
    assert (found.name == "full") == (not found.missing)


@full_only
def test_an_installed_package_is_hidden(tmp_path: Path) -> None:
    """In site-packages the package would be shown with everything else there, answers of its own problems included."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (libraries,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    shutil.copytree(Path(sandbox.__file__).parents[1], libraries / "recode_rl")
    (libraries / "neighbour.py").write_text("")
    source = f"""
import json, os
from recode_rl.sandbox import Bounds, Cell
from recode_rl.sandbox.script import run_script
program = "import os, neighbour; print(os.listdir({str(libraries / "recode_rl")!r}))"
with Cell() as cell:
    print(run_script(cell, program, b"", Bounds(5), 15, 10000).stdout.decode())
"""
    done = subprocess.run([tmp_path / "venv/bin/python", "-c", source], cwd="/", capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_works_for_an_ordinary_user() -> None:
    """A copy of the package, used by nobody."""
    python = Path("/usr/bin/python3")
    if not python.exists():
        pytest.skip("no system interpreter")
    question = "import sys; print(sys.version_info >= (3, 11))"
    if subprocess.check_output([python, "-c", question]).strip() != b"True":
        pytest.skip("the system interpreter is too old")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        shutil.copytree(Path(sandbox.__file__).parents[1], Path(folder) / "recode_rl")
        command = [str(python), "-c", "from recode_rl import sandbox; print(sandbox.level())"]
        nobody = {"user": 65534, "group": 65534, "extra_groups": []}
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, **nobody)
    assert done.stderr == ""
    assert done.stdout.startswith("SandboxLevel(name=")
    if sandbox.level().name == "full":
        assert "'full'" in done.stdout
