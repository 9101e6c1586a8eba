"""Every command: flags in, one clear line and a status out, no traceback."""

import pathlib
import queue
import signal
import subprocess
import sys
import threading

import pytest
from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread

from alterrec_jax.errors import nearest
from alterrec_jax.runtime import command_line
from alterrec_jax.runtime.command_line import EXIT_ERROR, EXIT_PIPE, EXIT_RESUME

TOOL = """
import errno
from absl import flags
from alterrec_jax.runtime import command_line
from alterrec_jax.errors import UserError

ACTIONS = ["work", "fail", "full", "forbidden", "interrupt", "resume", "write", "memory", "device memory", "bug"]
ACTION = flags.DEFINE_enum("action", "work", ACTIONS, "What to do.")
COUNT = flags.DEFINE_integer("count", 1, "How often.")
PLACE = flags.DEFINE_string("place", "", "Where.")

def main():
    if ACTION.value == "fail":
        raise UserError("the thing is wrong;\\n   mend the thing")
    if ACTION.value == "full":
        raise OSError(errno.ENOSPC, "No space left on device", "big.bin")
    if ACTION.value == "forbidden":
        raise PermissionError(errno.EACCES, "Permission denied", "secret.txt")
    if ACTION.value == "memory":
        bytearray(2**60)
    if ACTION.value in ("device memory", "bug"):
        import jax
        words = "RESOURCE_EXHAUSTED: Out of memory allocating 5 bytes." if "memory" in ACTION.value else "INTERNAL"
        raise jax.errors.JaxRuntimeError(words)
    if ACTION.value == "interrupt":
        raise KeyboardInterrupt
    if ACTION.value == "write":
        with open(PLACE.value, "w") as file:
            file.write(str(file.fileno()))
    print("done", COUNT.value, PLACE.value)
    return command_line.EXIT_RESUME if ACTION.value == "resume" else None

command_line.run(main, positional="place")
"""


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A small command."""
    path = tmp_path_factory.mktemp("cli") / "tool.py"
    path.write_text(TOOL)
    return path


def run(tool: pathlib.Path, *arguments: str, shell: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the command as a user does, perhaps by some words of a shell."""
    root = pathlib.Path(__file__).parents[2]
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r}); exec(open({str(tool)!r}).read())"]
    by_shell = ["bash", "-c", shell, "bash"] if shell else []
    return subprocess.run([*by_shell, *command, *arguments], check=False, capture_output=True, text=True)


def test_work_that_is_done_ends_with_status_0(tool: pathlib.Path) -> None:
    done = run(tool, "--count=3", "here")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done 3 here\n", "")


def test_a_status_is_passed_on(tool: pathlib.Path) -> None:
    assert run(tool, "--action=resume").returncode == EXIT_RESUME == 75


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--action=fail"], ("the thing is wrong; mend the thing",)),
        (["--action=full"], ("disk is full", "big.bin", "free some space")),
        (["--action=forbidden"], ("secret.txt", "Permission denied")),
        (["--action=interrupt"], ("error: interrupted\n",)),
        (["--count=many"], ("count", "many")),
        (["--cuont=3"], ("cuont", "count")),
        (["--action=wrok"], ("action", "wrok", "work")),
        (["here", "there"], ("unexpected argument 'there'",)),
        (["--place=\udcc3"], (r"argument '--place=\udcc3' is not text in the encoding of this locale", "PYTHONUTF8=1")),
    ],
)
def test_errors_are_one_line_and_status_1(tool: pathlib.Path, arguments: list[str], parts: tuple[str, ...]) -> None:
    done = run(tool, *arguments)
    assert done.returncode == EXIT_ERROR == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    for part in parts:
        assert part in done.stderr


@pytest.mark.parametrize("flag", ["--help", "-?", "--helpshort", "--helpfull"])
def test_help_is_no_error(tool: pathlib.Path, flag: str) -> None:
    done = run(tool, flag)
    assert (done.returncode, done.stderr) == (0, "") and "How often." in done.stdout


def test_a_reader_that_stops_is_no_traceback(tool: pathlib.Path) -> None:
    done = run(tool, shell='"$@" | true; exit ${PIPESTATUS[0]}')
    assert (done.returncode, done.stderr) == (EXIT_PIPE, "") and EXIT_PIPE == 128 + signal.SIGPIPE


def test_files_do_not_take_the_place_of_closed_streams(tool: pathlib.Path, tmp_path: pathlib.Path) -> None:
    done = run(tool, "--action=write", str(tmp_path / "file"), shell='"$@" <&- >&- 2>&-')
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert int((tmp_path / "file").read_text()) > 2


TRAIN = """
from alterrec_jax.runtime import command_line
from alterrec_jax.training import trainer
from experiments import train

def run(self):
    raise KeyboardInterrupt

trainer.Trainer.run = run
command_line.run(train.main)
"""


def test_training_that_is_interrupted_tells_how_it_continues(
    dataset_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    config = pathlib.Path(__file__).parents[2] / "experiments/configs/quickstart.py"
    flags = (f"--config={config}", "--config.mining.k1=1", f"--data_dir={dataset_folder}", f"--workdir={tmp_path}/run")
    done = run(tmp_path / "train.py", *flags)
    assert done.returncode == EXIT_ERROR
    told = "error: interrupted; the same command continues from the last checkpoint"
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == [told]


WAITING = """
import threading
from alterrec_jax.errors import UserError
from alterrec_jax.runtime import command_line

def main():
    threading.Thread(target=threading.Event().wait).start()
    raise UserError("it failed")

command_line.LAST_SECONDS = 0.1
command_line.run(main)
"""


def test_a_command_that_failed_ends_though_a_thread_waits_for_ever(tmp_path: pathlib.Path) -> None:
    (tmp_path / "waits.py").write_text(WAITING)
    done = run(tmp_path / "waits.py")
    assert (done.returncode, done.stderr) == (EXIT_ERROR, "error: it failed\n")


def test_the_nearest_name_is_suggested_and_else_all_are_named() -> None:
    assert nearest("droput", ["dropout", "dim"]) == "did you mean 'dropout'?"
    assert nearest("xyz", ["dropout", "dim"]) == "known: dim, dropout"


def test_memory_that_does_not_suffice_is_one_line_with_the_remedy(tool: pathlib.Path) -> None:
    for action, words in (("memory", ""), ("device memory", "Out of memory allocating 5 bytes")):
        done = run(tool, f"--action={action}")
        assert done.returncode == EXIT_ERROR and "Traceback" not in done.stderr
        assert done.stderr.startswith("error: out of memory") and done.stderr.count("\n") == 1
        assert words in done.stderr and "lower --config.batch_prefixes" in done.stderr
    assert "Traceback" in run(tool, "--action=bug").stderr, "what is no lack of memory is not called one"


def test_an_error_that_ends_a_thread_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    """TensorBoard hands it to the next call; whoever else has threads does not."""
    error = OSError(28, "No space left on device")
    mine, theirs = threading.Thread(), _AsyncWriterThread(queue.Queue(), None, 1)
    for thread in (theirs, mine):
        command_line.thread_error(threading.ExceptHookArgs((OSError, error, None, thread)))
        assert ("No space left" in capfd.readouterr().err) == (thread is mine)
