from __future__ import annotations

import os
import subprocess
import sys

import pytest

import acclimate
from acclimate.cli import main
from acclimate.errors import MachineFailed, UserError

HEAVY = {"torch", "transformers", "pandas", "sklearn", "scipy", "matplotlib", "pyarrow", "peft", "accelerate", "numpy"}


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["predict", "--help"], ["models", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys, acclimate.cli.main as m\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "try: m.main()\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "print('LOADED', sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.rpartition("LOADED")[2]
    assert "'acclimate'" in loaded
    assert {name for name in HEAVY if f"'{name}'" in loaded} == set()


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, acclimate; print(sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {name for name in HEAVY if f"'{name}'" in loaded} == set()


def test_python_m_acclimate_is_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "acclimate", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"acclimate {acclimate.__version__}\n"


def test_a_user_error_is_one_block_and_exit_code_2(cli, api) -> None:
    api.raises = UserError("no column 'lable'; did you mean 'label'?")
    result = cli("fit", "train.csv", "--label", "lable")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: no column 'lable'; did you mean 'label'?\n"


def test_a_failure_of_the_machine_is_exit_code_1(cli, api) -> None:
    api.raises = OSError(28, "No space left on device", "RUN/model")
    result = cli("fit", "train.csv")
    assert (result.exit_code, result.stderr) == (1, "error: No space left on device: RUN/model\n")


def test_a_failure_of_the_machine_that_says_what_to_do_is_exit_code_1(cli, api) -> None:
    api.raises = MachineFailed("cannot write RUN: No space left on device; choose another --output-dir")
    result = cli("fit", "train.csv")
    assert (result.exit_code, result.stderr) == (1, f"error: {api.raises}\n")


def test_ctrl_c_is_exit_code_130_and_a_line(cli, api) -> None:
    api.raises = KeyboardInterrupt()
    result = cli("fit", "train.csv")
    assert result.exit_code == 130
    assert result.stderr.startswith("stopped by Ctrl-C")
    assert result.stderr.count("\n") == 1


def test_a_bug_keeps_its_traceback(cli, api) -> None:
    api.raises = ZeroDivisionError("a bug")
    assert isinstance(cli("fit", "train.csv").exception, ZeroDivisionError)


def test_the_words_train_and_score_are_understood_but_not_shown(cli, api) -> None:
    assert cli("train", "train.csv", "--label", "y").exit_code == 0
    assert cli("score", "RUN", "test.csv").exit_code == 0
    assert [call[0] for call in api.calls] == ["fit", "load", "evaluation"]
    commands = [line.split()[0] for line in cli("--help").stdout.split("Commands:")[1].splitlines() if line.strip()]
    assert commands == [
        "fit",
        "predict",
        "evaluate",
        "compare",
        "correct",
        "report",
        "inspect",
        "shift",
        "methods",
        "demo",
        "models",
        "datasets",
        "cache",
    ]


def test_no_arguments_show_the_help(cli) -> None:
    result = cli()
    assert "Usage: acclimate" in result.stdout + result.stderr


def test_an_unknown_command_names_the_nearest(cli) -> None:
    result = cli("evalute", "RUN")
    assert result.exit_code == 2
    assert "evaluate" in result.stderr


def test_what_libraries_keep_for_every_shape_is_bounded_before_they_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else is set; a number that the user gives stands."""
    names = ("OMP_WAIT_POLICY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
    for name, value in zip(names, ("passive", "7", ""), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LRU_CACHE_CAPACITY")
    monkeypatch.setattr(main, "app", lambda prog_name: None)
    main.main()
    assert [os.environ[name] for name in names] == ["passive", "7", "64"]
