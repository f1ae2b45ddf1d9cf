"""The command line as a table: arguments -> exit status and text."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.deblur_process import call, run_python
from support.start_up import HEAVY, PROBE, count_modules

COMMANDS = [
    ["run"],
    ["doctor"],
    ["bench"],
    ["bench", "merge"],
    ["train", "expert"],
    ["train", "preview"],
    ["train", "plot"],
    ["train", "estimates"],
]


def test_garbage_is_collected_again_once_a_command_runs():
    code = "import atexit, gc; from deblur_cli.__main__ import main; atexit.register(lambda: print(gc.isenabled()))"
    answer = run_python(["-c", f"import sys; sys.argv = ['deblur', 'weights', 'list']; {code}; main()"])
    assert (answer.returncode, answer.stdout.splitlines()[-1]) == (0, "True")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([*command, "--help"] for command in COMMANDS)])
def test_help_and_version_import_nothing_heavy(arguments):
    answer = run_python(["-c", PROBE, *arguments])
    assert (answer.returncode, answer.stderr) == (0, "heavy: ")
    assert answer.stdout


def test_help_loads_few_modules():
    assert count_modules(["--help"]) <= 260
    assert count_modules(["--version"]) <= 190


@pytest.mark.parametrize("command", ["run", "doctor"])
def test_the_list_of_commands_says_what_a_command_says_of_itself(command):
    listing, own = (call([*words, "--help"], COLUMNS="200").stdout for words in ([], [command]))
    says = next(line.strip() for line in own.splitlines() if line.strip() and "Usage:" not in line)
    assert re.search(rf"│ {command} +{re.escape(says)} +│", listing)


def test_version_is_one_word_and_a_number():
    answer = call(["--version"])
    assert (answer.stdout.split()[0], answer.stderr) == ("deblur", "")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(command):
    answer = call([*command, "--help"])
    assert answer.returncode == 0
    assert "Example" in answer.stdout
    assert " ".join(["deblur", *command]) in answer.stdout
    assert call([*command, "-h"]).stdout == answer.stdout


def test_every_option_of_run_can_be_set_by_environment():
    answer = call(["run", "--help"], COLUMNS="250")
    options = {line.split()[1]: line for line in answer.stdout.splitlines() if line.startswith("│ --")}
    assert {"--output", "--model", "--expert", "--dry-run", "--help"} <= options.keys()
    del options["--help"]
    for option, line in options.items():
        name = option.removeprefix("--").replace("-", "_").upper()
        assert f"[env var: DEBLUR_{name}]" in line


def test_without_a_command_the_help_is_shown_and_the_status_says_usage():
    answer = call([])
    assert answer.returncode == 2
    assert "Commands" in answer.stdout
    assert answer.stderr == ""
    assert call(["train"]).returncode == 2


USAGE = [
    (["frobnicate"], "No such command 'frobnicate'"),
    (["--frobnicate"], "No such option: --frobnicate"),
    (["run", "a.jpg", "-o", "out", "--tilt", "3"], "No such option: --tilt"),
    (["run", "a.jpg", "-o"], "requires an argument"),
    (["run", "a.jpg", "-o", "out", "--tile", "big"], "'--tile'"),
    (["run", "-o", "out"], "no input"),
    (["run", "a.jpg"], "no output; add --output"),
    (["run", "a.jpg", "-o", "out", "--tile", "8"], "--tile 8: must be from 64"),
    (["run", "a.jpg", "-o", "out", "--quality", "101"], "--quality 101: must be from 1 to 100"),
    (["run", "a.jpg", "-o", "out", "--seed", "-1"], "--seed -1: must be from 0"),
    (["run", "a.jpg", "-o", "out", "--steps", "0"], "--steps 0: must be from 1 to 1000"),
    (["run", "a.jpg", "-o", "out", "--strength", "1.5"], "--strength 1.5: must be from 0 to 1"),
    (["run", "a.jpg", "-o", "out", "--strength", "nan"], "--strength nan: must be from 0 to 1"),
    (["run", "a.jpg", "-o", "out", "--model", "bundled-expert", "--steps", "4"], "takes no steps, it is an expert"),
    (["run", "a.jpg", "-o", "out", "--model", "bundled-expert:strength=1"], "takes no strength, it is an expert"),
    (["run", "a.jpg", "-o", "out", "--model", "bundled:step=4"], "must be NAME or NAME:steps=8,strength=0.5"),
    (["run", "a.jpg", "-o", "out", "--expert", "b.pth", "--steps", "4"], "--steps 4: --expert b.pth alone has no flow"),
    (["run", "a.jpg", "-o", "out", "--device", "tpu"], "--device tpu: unknown device"),
    (["run", "a.jpg", "-o", "out", "--dtype", "float16"], "--dtype float16: unknown; use one of auto,"),
    (["run", "a.jpg", "-o", "out", "--format", "gif"], "--format gif: unknown; use one of same, jpg,"),
    (["run", "a.jpg", "-o", "out", "--name", "{date}"], "unknown field {date}; known are {stem}, {type},"),
    (["run", "a.jpg", "-o", "out", "--name", "a/b{ext}"], "--name a/b{ext}: a name has no folders"),
    (["run", "a.jpg", "-o", "out", "--suffix", "_a"], "No such option: --suffix; names are made by --name, as in"),
    (["run", "a.jpg", "-o", "out", "--json", "--jsonl"], "exclude each other"),
    (["run", "a.jpg", "-o", "out", "-q", "-v"], "exclude each other"),
]


@pytest.mark.parametrize(("arguments", "text"), USAGE, ids=[" ".join(row[0]) for row in USAGE])
def test_a_usage_fault_is_one_line_with_status_2(arguments, text, capsys):
    from deblur_cli.app import run_app

    assert run_app(arguments) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("deblur: error: ")
    assert streams.err.count("\n") == 1
    assert text in streams.err


def test_an_option_can_come_from_the_environment(tmp_path):
    answer = call(["run", "a.jpg", "-o", str(tmp_path)], DEBLUR_DTYPE="int4")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == "deblur: error: --dtype int4: unknown; use one of auto, float32, bfloat16\n"


def test_debug_shows_where_a_fault_comes_from(tmp_path):
    answer = call(["run", "nowhere.jpg", "-o", str(tmp_path)], DEBLUR_DEBUG="1")
    assert answer.returncode == 2
    assert "Traceback" in answer.stderr
    assert answer.stderr.splitlines()[-1] == "deblur: error: nowhere.jpg: no such file or folder"


def test_a_long_path_is_not_broken(tmp_path):
    path = tmp_path / ("x" * 100) / ("y" * 100) / "  two  spaces.jpg"
    answer = call(["run", str(path), "-o", str(tmp_path)], COLUMNS="40")
    assert answer.stderr == f"deblur: error: {path}: no such file or folder\n"


def test_a_fault_before_the_work_never_imports_torch(tmp_path):
    for name in ("in/a.png", "out/a.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"not one of ours")
    inputs = [("nowhere.jpg", "out"), (tmp_path, tmp_path), (tmp_path / "in", tmp_path / "out")]
    steps = (tmp_path / "in", "out", "--model", "bundled-expert", "--steps", "4")
    for source, target, *more in [*inputs, steps]:
        answer = run_python(["-c", PROBE, "run", str(source), "-o", str(target), *more])
        assert answer.returncode == 2
        assert "torch" not in answer.stderr.split("heavy: ")[1]


def test_a_dry_run_never_imports_torch(tmp_path):
    (tmp_path / "a.png").write_bytes(b"whatever")
    answer = run_python(["-c", PROBE, "run", str(tmp_path), "-o", str(tmp_path / "out"), "--dry-run"])
    assert answer.returncode == 0
    assert "torch" not in answer.stderr.split("heavy: ")[1]
    assert answer.stdout.endswith("a.png\tnew\n")


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_outside_of_the_work_has_its_usual_status_and_no_traceback(name, status):
    probe = "import signal, sys; from deblur_cli import app; from deblur_cli.batch import inputs; "
    probe += f"inputs.find_photos = lambda *_: signal.raise_signal(signal.{name}); "
    probe += "sys.argv[1:] = ['run', 'a.jpg', '-o', 'out']; app.main()"
    answer = run_python(["-c", probe])
    assert (answer.returncode, answer.stdout, answer.stderr) == (status, "", "")


@pytest.mark.parametrize("words", ["deblur ", "deblur run --d", "deblur run --model ", "deblur run --device c"])
def test_completion_works_and_imports_nothing_heavy(words):
    probe = "import sys; from deblur_cli import app\ntry: app.main()\nfinally: sys.stderr.write(str("
    probe += f"sorted({HEAVY} & set(sys.modules))))"
    position = str(len(words.split(" ")) - 1)
    answer = run_python(["-c", probe], _DEBLUR_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=position)
    assert answer.stderr == "[]"
    assert answer.stdout or "--model" in words


def test_completion_offers_commands_options_and_values():
    def complete(words):
        position = str(len(words.split(" ")) - 1)
        return call([], _DEBLUR_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=position).stdout.split()

    assert {"run", "doctor", "bench", "train"} <= set(complete("deblur "))
    assert complete("deblur run --d") == ["--device", "--dtype", "--dry-run"]
    assert complete("deblur run --device c") == ["cpu", "cuda", "cuda:0"]
    assert complete("deblur run --format t") == ["tiff"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_can_be_shown(shell):
    answer = call([], _DEBLUR_COMPLETE=f"source_{shell}")
    assert "_DEBLUR_COMPLETE" in answer.stdout


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_codes_reach_a_pipe(environment):
    answer = call(["run", "--help"], **environment)
    assert "\x1b" not in answer.stdout + answer.stderr


def test_a_reader_that_closes_the_pipe_ends_the_command_quietly():
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    for arguments in ("--help", "--version"):
        command = f"{sys.executable} -m deblur_cli {arguments} | true; echo ${{PIPESTATUS[0]}}"
        answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment, check=True)
        assert answer.stderr == ""
        assert answer.stdout.strip() in ("0", "1")


def test_a_bug_stays_a_traceback():
    probe = "from deblur_cli import app; from deblur_cli.batch import inputs; inputs.find_photos = lambda *_: 1 / 0; "
    answer = run_python(["-c", probe + "app.run_app(['run', 'a.jpg', '-o', 'out'])"])
    assert answer.returncode == 1
    assert "Traceback" in answer.stderr
    assert "ZeroDivisionError" in answer.stderr.splitlines()[-1]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_as_good_as_the_null_device(tmp_path, closed):
    (tmp_path / "a.png").write_bytes(b"whatever")
    deblur = f"{sys.executable} -m deblur_cli"
    for arguments, status in (("--version", 0), (f"run {tmp_path} -o {tmp_path}/out --dry-run", 0), ("run", 2)):
        command = f"{{ {deblur} {arguments} {closed}; }} 2>&1; echo $?"
        answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        assert answer.stdout.splitlines()[-1] == str(status)
        assert "Traceback" not in answer.stdout


def test_a_list_from_a_closed_stdin_names_nothing():
    command = f"{sys.executable} -m deblur_cli run --files-from - -o out <&-"
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
    assert "nothing to do" in answer.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_results_that_find_the_disk_full_are_one_line_with_status_1(tmp_path):
    (tmp_path / "a.png").write_bytes(b"whatever")
    for arguments in ("--version", "--help", f"run {tmp_path} -o {tmp_path}/out --dry-run"):
        command = f"{sys.executable} -m deblur_cli {arguments} >/dev/full"
        answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert (answer.returncode, answer.stderr.count("\n")) == (1, 1)
        assert answer.stderr.startswith("deblur: error: disk full: standard output")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_messages_that_cannot_be_written_change_no_status(tmp_path):
    (tmp_path / "a.png").write_bytes(b"whatever")
    for arguments, status in ((f"run {tmp_path} -o {tmp_path}/out --dry-run -v", 0), ("run", 2)):
        command = f"{sys.executable} -m deblur_cli {arguments} 2>/dev/full"
        assert subprocess.run(["bash", "-c", command], capture_output=True, check=False).returncode == status


def test_a_signal_while_python_takes_its_modules_down_shows_no_traceback():
    probe = "import atexit, signal, sys; from deblur_cli import app; "
    probe += "atexit.register(signal.raise_signal, signal.SIGTERM); sys.argv[1:] = ['--version']; app.main()"
    answer = run_python(["-c", probe])
    assert (answer.returncode, answer.stderr) == (-signal.SIGTERM, "")
