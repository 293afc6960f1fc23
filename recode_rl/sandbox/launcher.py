"""The trusted first process of a cell: builds the walls, then forks one confined process per request.

Run as a script (`python -s -P -S launcher.py FD`), never imported by the package. It uses the standard library only, is
given no secrets, and does not see programs or tests: those go straight to the process it forked, over a socket that is
passed through here unopened.

    host ──control──▶ launcher ──▶ init (pid 1 of its own namespaces) ──fork──▶ the program, without rights

`init` stays trusted: it watches the memory of the program's whole tree, ends everything the program left behind, gives
the next one an empty folder, and reports status and usage. The namespaces are made once: with its processes killed, its
folder replaced and the calls that leave something in the kernel refused by the filter, nothing of a program is left in
them for the next.
"""

# Paths go to system calls as they are, and pathlib is a slow import for a process this small.
# ruff: noqa: PTH102, PTH103, PTH106, PTH110, PTH112, PTH114, PTH115, PTH116, PTH120, PTH123, PTH208, PTH211
from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import select
import shutil
import signal
import site
import socket
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable
from typing import Any, NoReturn

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
NAMESPACES = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECUREBITS = 1, 4, 28
PR_SET_NO_NEW_PRIVS, PR_SET_CHILD_SUBREAPER = 38, 36
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
SYS_FSOPEN, SYS_FSCONFIG, SYS_FSMOUNT = 430, 431, 432  # the same on every architecture
FSCONFIG_CMD_CREATE, CLOEXEC = 6, 1
SECUREBITS_NO_ROOT = 0b100011  # uid 0 gains nothing by exec, capabilities are not kept, and both are locked
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
INNER_UID = 1000
OUTER_UID_BASE = 1_900_000_000  # user ids that no account has: one per cell, so that process limits do not add up
ROLES = "recode_rl.sandbox.roles"
BOX = "/box"  # where a program may write: an empty folder in memory, its own
BOX_INODES = 65536
OPEN_FILES = 64  # each may hold memory of the kernel's (pipes, socket pairs) that no other limit counts
CHANNEL_FD, PREPARED_FD = 3, 4
SAMPLE_MS = 20  # how often the memory of a program's tree is added up; most programs end before the first time
PAGE_KIB = resource.getpagesize() // 1024
WARM = (
    "bisect",
    "collections",
    "copy",
    "cmath",
    "dataclasses",
    "datetime",
    "decimal",
    "fractions",
    "functools",
    "heapq",
    "itertools",
    "math",
    "operator",
    "random",
    "re",
    "statistics",
    "string",
    "traceback",
    "threading",
    "typing",
)


class Missing(Exception):
    """A wall that this machine does not let us build; the text names it."""


_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *args: Any) -> int:
    """A function of the C library by name; OSError where it fails."""
    result = int(getattr(_libc, name)(*args))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2)."""
    call(
        "mount",
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )


def main() -> None:
    """Read the configuration from the control socket, build the cell, serve until the host goes away."""
    control = socket.socket(fileno=int(sys.argv[1]))
    config = json.loads(control.recv(1 << 18))
    import_modules(config)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    if config["walls"] == "bwrap":  # all that follows here is done; what is left to us is to be init
        serve(control, Cell(True, None, config, None))
    if config["walls"] == "none":
        with contextlib.suppress(OSError, AttributeError):  # systems other than Linux have no prctl
            prctl(PR_SET_CHILD_SUBREAPER, 1)
        serve(control, Cell(False, weak_uid(), config, weak_proc()))
    try:
        own_users, uid = enter_namespaces()
    except (Missing, OSError) as error:
        reply(control, {"op": "failed", "missing": str(error)})
        return
    init = os.fork()
    if init:
        control.close()
        os.waitpid(init, 0)
        return
    start_init(control, config, uid, own_users)


def import_modules(config: dict[str, Any]) -> None:
    """Load our own modules without running the packages' __init__, and the standard library that programs often use."""
    for name in WARM:
        importlib.import_module(name)
    site.setquit()  # `exit` and `quit`, which programs use although -S leaves them out
    site.sethelper()
    for name, folder in config["packages"].items():
        package = types.ModuleType(name)
        package.__path__ = [folder]
        sys.modules[name] = package
    for name in config["modules"]:
        importlib.import_module(name)


def stay_on(core: int | None) -> set[int]:
    """Keep this process, and those forked from it, on one processor; returns all it may run on, if several.

    Tests and program take turns, call by call: to wake the other on the same processor is quick.
    """
    if core is None or not hasattr(os, "sched_setaffinity"):
        return set()
    allowed = os.sched_getaffinity(0)
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {core})
    return allowed if len(allowed) > 1 else set()


def enter_namespaces() -> tuple[bool, int | None]:
    """Move into new namespaces; returns whether the users are our own as well, and the user id for programs inside.

    That id is None where programs keep the one they have.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        return enter_as_root()
    try:
        call("unshare", CLONE_NEWUSER | NAMESPACES)
    except OSError as error:
        raise Missing(f"namespaces ({error.strerror})") from None
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"{INNER_UID} {uid} 1")
    write("/proc/self/gid_map", f"{INNER_UID} {gid} 1")
    return True, None


def enter_as_root() -> tuple[bool, int | None]:
    """As root the ids inside are mapped by a helper that stayed outside, which may map more than its own."""
    ready_read, ready_write = os.pipe()
    done_read, done_write = os.pipe()
    me = os.getpid()
    helper = os.fork()
    if helper == 0:
        os.read(ready_read, 1)
        os.write(done_write, b"1" if map_ids(me) else b"0")
        os._exit(0)
    try:
        call("unshare", CLONE_NEWUSER | NAMESPACES)
        user_namespace = True
    except OSError:
        user_namespace = False
    os.write(ready_write, b"x")
    mapped = os.read(done_read, 1) == b"1"
    os.waitpid(helper, 0)
    for fd in (ready_read, ready_write, done_read, done_write):
        os.close(fd)
    if user_namespace and mapped:
        return True, INNER_UID
    if user_namespace:
        raise Missing("user namespace (the id map was refused)")
    try:
        call("unshare", NAMESPACES)
    except OSError as error:
        raise Missing(f"namespaces ({error.strerror})") from None
    return False, OUTER_UID_BASE + me


def map_ids(pid: int) -> bool:
    """Inside: 0 for init, INNER_UID for programs, which outside is an id that owns nothing."""
    lines = f"0 0 1\n{INNER_UID} {OUTER_UID_BASE + pid} 1\n"
    try:
        write(f"/proc/{pid}/uid_map", lines)
        write(f"/proc/{pid}/gid_map", lines)
    except OSError:
        return False
    return True


def write(path: str, text: str) -> None:
    """Write a file of the kernel's in one call."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def start_init(control: socket.socket, config: dict[str, Any], uid: int | None, own_users: bool) -> NoReturn:
    """Pid 1: new root, then serve."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    prctl(PR_SET_DUMPABLE, 0)
    try:
        if os.getpid() != 1:
            raise Missing("pid namespace")
        if own_users:  # elsewhere the setting would be the whole machine's
            forbid_nested_namespaces()
        proc = own_proc()
        build_root(config)
    except (Missing, OSError) as error:
        reply(control, {"op": "failed", "missing": f"own root directory ({error})"})
        os._exit(1)
    serve(control, Cell(True, uid, config, proc))


def own_proc() -> int | None:
    """A proc file system of this pid namespace that is mounted nowhere: only who holds this descriptor can look in."""
    try:
        context = call("syscall", ctypes.c_long(SYS_FSOPEN), b"proc", CLOEXEC)
        call("syscall", ctypes.c_long(SYS_FSCONFIG), context, FSCONFIG_CMD_CREATE, None, None, 0)
        mounted = call("syscall", ctypes.c_long(SYS_FSMOUNT), context, CLOEXEC, 0)
        found = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=mounted)
    except OSError:
        return None
    os.close(context)
    os.close(mounted)
    return found


def weak_proc() -> int | None:
    """The machine's own list of processes, where it has one."""
    try:
        return os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None


def forbid_nested_namespaces() -> None:
    """A second wall only (a nested namespace shows nothing new), so its absence is no reason to refuse."""
    with contextlib.suppress(OSError):
        write("/proc/sys/user/max_user_namespaces", "0")


def build_root(config: dict[str, Any]) -> None:
    """A root directory that holds the interpreter, system libraries and a few devices, and nothing else."""
    root = "/proc"  # a mount point that exists everywhere and is no parent of anything we bind
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=4m,mode=755")
    for path in (BOX, "/dev", "/proc", "/etc", "/.old"):
        os.mkdir(root + path, 0o755)
    bound = [path for path in config["bind"] if bind(path, root)]
    for name in ("null", "zero", "full", "random", "urandom"):
        bind(f"/dev/{name}", root, device=True)
    bind("/etc/ld.so.cache", root)
    os.symlink(BOX, root + "/dev/shm")
    if not os.path.exists(root + "/tmp"):  # it is there where the interpreter or its packages are installed below it
        os.symlink(BOX, root + "/tmp")
    for hidden in config["hide"]:
        if any(hidden == path or hidden.startswith(path + "/") for path in bound) and os.path.isdir(root + hidden):
            mount("tmpfs", root + hidden, "tmpfs", MS_NOSUID | MS_NODEV | MS_RDONLY, "size=4k,mode=755")
    os.chdir(root)
    number = SYS_PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise Missing(f"pivot_root on {os.uname().machine}")
    call("syscall", ctypes.c_long(number), b".", b".old")
    os.chdir("/")
    call("umount2", b"/.old", MNT_DETACH)
    os.rmdir("/.old")
    mount("none", "/", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)


def bind(path: str, root: str, device: bool = False) -> bool:
    """Show a directory or file of the host under the same path in the new root, read-only; links stay links."""
    target = root + path
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    if os.path.lexists(target) or not os.path.lexists(path):
        return False
    if os.path.islink(path):
        os.symlink(os.readlink(path), target)
        return False
    if os.path.isdir(path):
        os.mkdir(target, 0o755)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    mount(path, target, None, MS_BIND | MS_REC)
    # The flags a mount already has are locked in a user namespace: a remount without them is refused.
    kept = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC | 1024 | 2048 | 4096)
    flags = _mount_flags(kept) | MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID
    mount("none", target, None, flags if device else flags | MS_NODEV)
    return True


def _mount_flags(statvfs_flags: int) -> int:
    """ST_NOATIME, ST_NODIRATIME and ST_RELATIME have other numbers as mount flags; the rest are the same."""
    flags = statvfs_flags & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for st, ms in ((1024, 1024), (2048, 2048), (4096, 1 << 21)):
        flags |= ms if statvfs_flags & st else 0
    return flags


def weak_uid() -> int | None:
    """Without namespaces root still gives up its rights, where the interpreter stays readable for others."""
    if os.geteuid() != 0:
        return None
    folder = os.path.dirname(os.__file__)
    while True:
        if not os.stat(folder).st_mode & 0o001:
            return None
        if folder == "/":
            return OUTER_UID_BASE + os.getpid()
        folder = os.path.dirname(folder)


class Cell:
    """What every process forked here has in common."""

    def __init__(self, confined: bool, uid: int | None, config: dict[str, Any], proc: int | None) -> None:
        self.confined = confined
        self.uid = uid
        self.proc = proc
        self.filter = bytes.fromhex(config["filter"]) if config["filter"] else None
        if self.filter is not None:
            self.instructions = ctypes.create_string_buffer(self.filter, len(self.filter))
            address = ctypes.addressof(self.instructions)
            self.filter_program = (ctypes.c_uint64 * 2)(len(self.filter) // 8, address)  # struct sock_fprog
            self.filter_mode = ctypes.c_ulong(SECCOMP_MODE_FILTER)
            if not self.takes_filter():
                self.filter = None
        self.box_mb = 0
        self.cores = stay_on(config["core"])
        self.renews = config["walls"] == "namespaces"
        self.modules = {name: sys.modules[name] for name in config["modules"]}
        sys.path += config["path"]
        self.base_kib = 0  # resident memory that a process forked here begins with, most of it shared

    def role(self, name: str) -> Callable[[int], None]:
        """The function `module:function` among the modules loaded at the start."""
        module, _, function = name.partition(":")
        found: Callable[[int], None] = getattr(self.modules[module], function)
        return found

    def takes_filter(self) -> bool:
        """Whether this kernel takes our filter of system calls; a process that tries it ends at once."""
        pid = os.fork()
        if pid == 0:
            try:
                prctl(PR_SET_NO_NEW_PRIVS, 1)
                self.install_filter()
            except BaseException:
                os._exit(1)
            os._exit(0)
        return os.waitpid(pid, 0)[1] == 0

    def install_filter(self) -> None:
        """Put this process and all it will start behind the filter."""
        if self.filter is not None:
            zero = ctypes.c_ulong(0)
            call("prctl", PR_SET_SECCOMP, self.filter_mode, self.filter_program, zero, zero)

    def renew_box(self, size_mb: int) -> None:
        """An empty folder of `size_mb` MiB for the next program; the one that is there does, where it is untouched."""
        if self.box_mb == size_mb and self.uid is not None and not os.listdir(BOX):
            return
        if self.box_mb:
            call("umount2", BOX.encode(), MNT_DETACH)
        mount("tmpfs", BOX, "tmpfs", MS_NOSUID | MS_NODEV, f"size={size_mb}m,nr_inodes={BOX_INODES},mode=1777")
        self.box_mb = size_mb

    def read(self, path: str) -> bytes:
        """A small file of the process list; OSError where the process is gone or there is no list."""
        if self.proc is None:
            raise FileNotFoundError(path)
        fd = os.open(path, os.O_RDONLY, dir_fd=self.proc)
        try:
            return os.read(fd, 1 << 16)
        finally:
            os.close(fd)

    def resident_kib(self, pid: int | str) -> int | None:
        """Resident memory of a process, None where it is gone."""
        try:
            return int(self.read(f"{pid}/statm").split()[1]) * PAGE_KIB
        except (OSError, IndexError):
            return None

    def shared_out_kib(self, pid: int) -> int | None:
        """Memory of a process, with pages that several share counted in parts; None where it cannot be known."""
        try:
            lines = self.read(f"{pid}/smaps_rollup").decode().splitlines()
            return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except (OSError, ValueError, IndexError):
            return None

    def over(self, limit_kib: int) -> bool:
        """Whether the program and all it started hold more memory than that.

        Resident memory is quickly known, but counts pages that processes share for each of them. What it finds too much
        is counted again.
        """
        if self.tree_kib(self.resident_beyond_start_kib) <= limit_kib:
            return False
        return self.tree_kib(lambda pid: self.shared_out_kib(pid) or self.resident_beyond_start_kib(pid)) > limit_kib

    def resident_beyond_start_kib(self, pid: int) -> int:
        """Resident memory beyond what a process forked here begins with."""
        found = self.resident_kib(pid)
        return 0 if found is None else max(0, found - self.base_kib)

    def tree_kib(self, measure: Callable[[int], int]) -> int:
        """The measure of every process of the program, and the files it wrote."""
        if self.proc is None:
            return 0
        total = 0
        if self.confined:
            files = os.statvfs(BOX)
            total = (files.f_blocks - files.f_bfree) * files.f_frsize // 1024
        return total + sum(map(measure, self.tree()))

    def tree(self, *known: int) -> list[int]:
        """The processes of the program, as far as they can be seen, and those that are known."""
        if self.proc is None:
            return list(known)
        if not self.confined:
            return list({*known, *descendants()})
        return list({*known, *(int(name) for name in os.listdir(self.proc) if name.isdigit() and name != "1")})

    def waited_s(self, pid: int) -> float:
        """Seconds a process was ready to run and waited for a processor, 0 where the kernel does not count them."""
        try:
            return int(self.read(f"{pid}/schedstat").split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0


def serve(control: socket.socket, cell: Cell) -> NoReturn:
    """Fork, watch and clean up one process per request, until the host closes the control socket."""
    if cell.confined:
        settle(cell)
    limit_for_all()
    open_streams(cell.modules[ROLES])
    for module in cell.modules.values():
        if hasattr(module, "rehearse"):
            module.rehearse()
    cell.base_kib = cell.resident_kib("self") or 0
    forget_ourselves()
    gc.collect()
    gc.freeze()
    reply(control, {"op": "ready", "uid": cell.uid, "filter": cell.filter is not None, "proc": cell.proc is not None})
    while True:
        try:
            data, fds, _, _ = socket.recv_fds(control, 1 << 16, 4)
        except OSError:
            os._exit(0)
        if not data:
            os._exit(0)
        request = json.loads(data)
        if request["op"] == "run":
            run(control, cell, request, fds)


def open_streams(roles: types.ModuleType) -> None:
    """Make the text streams of all programs to come, over pipes, as those of a script will be."""
    kept = [os.dup(fd) for fd in (1, 2)]
    read, write = os.pipe()
    for fd in (1, 2):
        os.dup2(write, fd)
    roles.open_streams()
    for fd, old in zip((1, 2), kept, strict=True):
        os.dup2(old, fd)
    for fd in (*kept, read, write):
        os.close(fd)


def settle(cell: Cell) -> None:
    """What programs inherit of init, done here once: their session, groups, folder, and no way to win rights."""
    os.setsid()
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    if cell.renews:
        prctl(PR_SET_SECUREBITS, SECUREBITS_NO_ROOT)
    if cell.uid is not None:
        os.setgroups([])
        os.setresgid(cell.uid, cell.uid, cell.uid)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of ids clears it
    os.environ["HOME"] = os.environ["TMPDIR"] = BOX
    cell.install_filter()


def limit_for_all() -> None:
    """The kernel's limits that are the same for every program."""
    mib = 1 << 20
    for which, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_STACK, 64 * mib),
        (getattr(resource, "RLIMIT_MEMLOCK", None), 0),
        (getattr(resource, "RLIMIT_MSGQUEUE", None), 0),
    ):
        if which is not None:
            lower_limit(which, most, most)


def lower_limit(which: int, soft: int, hard: int) -> None:
    """Set a limit of the kernel's, as far as it is not lower already."""
    set_limit(which, allowed(which, soft, hard))


def allowed(which: int, soft: int, hard: int) -> tuple[int, int]:
    """A limit, no higher than the one that holds here."""
    _, ceiling = resource.getrlimit(which)
    if ceiling != resource.RLIM_INFINITY:
        return min(soft, ceiling), min(hard, ceiling)
    return soft, hard


def set_limit(which: int, limits: tuple[int, int]) -> None:
    """setrlimit(2)."""
    try:
        resource.setrlimit(which, limits)
    except (OSError, ValueError):
        if sys.platform == "linux":  # elsewhere some limits exist in name only
            raise


def run(control: socket.socket, cell: Cell, request: dict[str, Any], fds: list[int]) -> None:
    """One request: fork, answer questions while the process lives, then end its whole tree and report."""
    folder = None
    if cell.renews:
        cell.renew_box(int(request["files_mb"]))
    elif not cell.confined:
        folder = weak_folder(cell)
    prepared_read, prepared_write = os.pipe()
    # Whatever can be known before the fork is: there its code and data are warm, and no page has to be copied for it.
    start = Start(cell.role(request["role"]), limits_of(cell, request), [*fds, prepared_write], folder)
    pid = cell.modules[ROLES].fork()
    if pid == 0:
        become_program(cell, start)
    for fd in (*fds, prepared_write):
        os.close(fd)
    pidfd = notice_of_death(pid)
    poller = select.poll()
    poller.register(control, select.POLLIN)
    poller.register(pidfd, select.POLLIN)
    killed = over_memory = False
    cores = set() if request["stay"] else cell.cores
    limit_kib = int(request["memory_mb"]) * 1024
    while pidfd not in (ready := [fd for fd, _ in poller.poll(SAMPLE_MS if cell.proc is not None else None)]):
        if cores and not ready:  # it takes longer than most, so it may go where there is room
            spread(cell.tree(pid), cores)
            cores = set()
        if control.fileno() in ready:
            killed = answer(control, cell, request["run"], pid) or killed
        elif cell.over(limit_kib):
            over_memory = True
            kill_tree(cell, pid)
    os.close(pidfd)
    status, cpu, rss = clean_up(cell, pid)
    prepared = os.read(prepared_read, 1) == b"1"
    os.close(prepared_read)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    ended = {"status": status, "cpu": cpu, "rss": rss, "killed": killed, "memory": over_memory, "prepared": prepared}
    reply(control, {"op": "exit", "run": request["run"], **ended})


def notice_of_death(pid: int) -> int:
    """A descriptor that can be read once the process has ended."""
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(pid)
    read, write = os.pipe()

    def wait() -> None:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        os.close(write)

    threading.Thread(target=wait, daemon=True).start()
    return read


def spread(pids: list[int], cores: set[int]) -> None:
    """Let processes run on any of these processors."""
    for pid in pids:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(pid, cores)


def answer(control: socket.socket, cell: Cell, number: int, pid: int) -> bool:
    """Answer the host while a program runs; returns whether the program was killed."""
    data = control.recv(1 << 16)
    if not data:
        kill_tree(cell, pid)
        os._exit(0)
    request = json.loads(data)
    if request.get("run") != number:
        return False
    if request["op"] == "cpu":
        pids = cell.tree(pid)
        used, waited = sum(map(cpu_seconds, pids)), max(map(cell.waited_s, pids))
        reply(control, {"op": "cpu", "run": number, "s": used, "waited": waited})
    if request["op"] == "kill":
        kill_tree(cell, pid)
        return True
    return False


def cpu_seconds(pid: int) -> float:
    """CPU time of a process (all its threads) so far: the kernel's clock with the number made from its pid."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def kill_tree(cell: Cell, pid: int) -> None:
    """End the program and everything it started."""
    if cell.confined:
        if os.getpid() != 1:  # outside our own pid namespace -1 would mean the whole machine
            os._exit(3)
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        return
    for victim in [pid, *descendants()]:
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(victim, signal.SIGKILL)


def descendants() -> list[int]:
    """Processes below this one; orphans come to us since we are their subreaper."""
    found: list[int] = []
    queue = [os.getpid()]
    while queue:
        try:
            with open(f"/proc/{queue[0]}/task/{queue[0]}/children") as file:
                children = [int(word) for word in file.read().split()]
        except OSError:
            children = []
        queue = queue[1:] + children
        found += children
    return found


def clean_up(cell: Cell, pid: int) -> tuple[int, float, int]:
    """Kill what is left, reap everything; wait status of the program, CPU seconds of its tree, largest RSS in KiB."""
    status, cpu, rss = 0, 0.0, 0
    while True:
        kill_tree(cell, pid)
        try:
            found, state, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return status, cpu, rss
        cpu += usage.ru_utime + usage.ru_stime
        rss = max(rss, usage.ru_maxrss)
        if found == pid:
            status = state


def weak_folder(cell: Cell) -> str:
    """A working directory for a program that has no root directory of its own."""
    folder = tempfile.mkdtemp(prefix="program-")
    if cell.uid is not None:
        os.chown(folder, cell.uid, cell.uid)
    return folder


class Start:
    """What a process is to become."""

    def __init__(
        self,
        function: Callable[[int], None],
        limits: list[tuple[int, tuple[int, int]]],
        fds: list[int],
        folder: str | None,
    ) -> None:
        self.function = function
        self.limits = limits
        self.fds = fds
        self.folder = folder


def become_program(cell: Cell, start: Start) -> NoReturn:
    """In the forked process: give up every right, then run the role that was asked for. Exits, never returns."""
    code = 1
    try:
        arrange_files(start.fds)
        for which, limits in start.limits:
            set_limit(which, limits)
        if start.folder is None:
            os.chdir(BOX)
            if cell.filter is None and cell.renews:  # the filter refuses what would stay behind in the namespace
                call("unshare", CLONE_NEWIPC)
        else:
            os.setsid()
            os.chdir(start.folder)
            os.environ["HOME"] = os.environ["TMPDIR"] = start.folder
        drop_rights(cell)
        if not cell.confined:
            cell.install_filter()
        elif cell.filter is not None:
            prctl(PR_SET_DUMPABLE, 1)  # so that init may count its memory; others have no way to look into it
        gc.enable()
        os.write(PREPARED_FD, b"1")  # said before the program has a line of its own: it cannot pass for our failure
        os.close(PREPARED_FD)
        start.function(CHANNEL_FD)
        code = 0
    except BaseException as error:  # the last frame of this process: say what failed on the real stderr, then end
        with contextlib.suppress(OSError):
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
    os._exit(code)


def arrange_files(fds: list[int]) -> None:
    """Make the files we were given 0, 1, 2, CHANNEL_FD and PREPARED_FD, and close every other."""
    if min(fds) <= PREPARED_FD:
        fds = [os.dup2(fd, OPEN_FILES // 2 + place, inheritable=False) for place, fd in enumerate(fds)]
    for place, fd in enumerate(fds):
        os.dup2(fd, place, place < CHANNEL_FD)
    os.closerange(PREPARED_FD + 1, 1 << 20)


def forget_ourselves() -> None:
    """A program asking for this package finds none, and `__main__` is not this script."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "recode_rl"]:
        del sys.modules[name]
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.argv = ["program.py"]


def limits_of(cell: Cell, request: dict[str, Any]) -> list[tuple[int, tuple[int, int]]]:
    """The kernel's limits for one process, soft and hard; the host adds deadlines of its own."""
    memory, files, cpu = int(request["memory_mb"]) << 20, int(request["files_mb"]) << 20, int(request["cpu_s"])
    limits = [
        (resource.RLIMIT_AS, allowed(resource.RLIMIT_AS, memory, memory)),
        (resource.RLIMIT_FSIZE, allowed(resource.RLIMIT_FSIZE, files, files)),
        (resource.RLIMIT_CPU, allowed(resource.RLIMIT_CPU, cpu, cpu + 1)),
    ]
    if cell.confined or cell.uid is not None:  # elsewhere the count is over all processes of the user
        count = int(request["processes"])
        limits.append((resource.RLIMIT_NPROC, allowed(resource.RLIMIT_NPROC, count, count)))
    return limits


def drop_rights(cell: Cell) -> None:
    """Another user, no capabilities, and no way to win any back."""
    if cell.uid is not None:  # the kernel takes all capabilities from who ceases to be uid 0
        if not cell.confined:
            os.setgroups([])
            os.setresgid(cell.uid, cell.uid, cell.uid)
        os.setresuid(cell.uid, cell.uid, cell.uid)
    elif sys.platform == "linux":
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        call("capset", header, (ctypes.c_uint32 * 6)())
    if not cell.confined and sys.platform == "linux":
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # inside, the death of init is the end of all
        prctl(PR_SET_DUMPABLE, 0)


def prctl(option: int, value: int) -> None:
    """prctl(2)."""
    zero = ctypes.c_ulong(0)
    call("prctl", option, ctypes.c_ulong(value), zero, zero, zero)


def reply(control: socket.socket, message: dict[str, Any]) -> None:
    """Tell the host; where it is gone there is nobody left to work for."""
    try:
        control.send(json.dumps(message).encode())
    except OSError:
        os._exit(0)


if __name__ == "__main__":
    main()
