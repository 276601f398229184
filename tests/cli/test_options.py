from __future__ import annotations

import pytest

from acclimate.cli.options import ALIASES, native, one_of, one_or_many
from acclimate.errors import UserError

OWN = {"--learning-rate", "--label", "--train-data", "--path"}


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        (["--lr", "1e-4"], ["--learning-rate", "1e-4"]),
        (["--lr=1e-4"], ["--learning-rate=1e-4"]),
        (["--learning_rate", "1"], ["--learning-rate", "1"]),
        (["--label_column=a_b"], ["--label=a_b"]),
        (["--train_file", "a_b.csv"], ["--train-data", "a_b.csv"]),
        (["--path", "x"], ["--path", "x"]),
        (["--epochs", "3"], ["--epochs", "3"]),
        (["--nothing_known", "x"], ["--nothing_known", "x"]),
        (["--label", "y", "--", "--lr"], ["--label", "y", "--", "--lr"]),
        (["a_b.csv", "-o", "x_y"], ["a_b.csv", "-o", "x_y"]),
    ],
)
def test_other_names_become_the_command_s_own(given: list[str], understood: list[str]) -> None:
    """A name the command has itself stays, and so does one whose option it lacks."""
    assert native(given, OWN) == understood


def test_every_alias_leads_to_an_option_of_some_command() -> None:
    import typer.main

    from acclimate.cli.main import app

    options = {
        name
        for command in typer.main.get_command(app).commands.values()
        for parameter in command.params
        for name in parameter.opts
    }
    assert sorted(set(ALIASES.values()) - options) == []
    assert sorted(alias for alias in ALIASES if alias in ALIASES.values()) == []


def test_a_file_is_given_once() -> None:
    assert one_of("TRAIN", "a.csv", "--train-data", None) == "a.csv"
    assert one_of("TRAIN", None, "--train-data", "b.csv") == "b.csv"
    with pytest.raises(UserError, match="TRAIN is given twice: 'a.csv', and 'b.csv' by --train-data"):
        one_of("TRAIN", "a.csv", "--train-data", "b.csv")
    with pytest.raises(UserError, match="no file is given; name it as TRAIN"):
        one_of("TRAIN", None, "--train-data", None)


def test_nothing_one_or_many() -> None:
    assert (one_or_many(None), one_or_many([]), one_or_many(["a"]), one_or_many(["a", "b"])) == (
        None,
        None,
        "a",
        ("a", "b"),
    )
