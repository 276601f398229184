"""docs/textbook-bert.md is true: one command does what the loop written by hand does, weight for weight."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path
from typing import Any

import torch
from made import rows, write_csv
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModel, AutoTokenizer
from typer.testing import CliRunner

from acclimate.cli.main import app
from acclimate.train.batches import shuffled

PAGE = Path(__file__).resolve().parents[2] / "docs" / "textbook-bert.md"
SIZE = 16


def the_command() -> list[str]:
    """The arguments of the command in the page."""
    block = re.search(r"```sh\n(acclimate fit .*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    return shlex.split(block[1].replace("\\\n", " "))[1:]


def with_value(arguments: list[str], option: str, value: str) -> list[str]:
    at = arguments.index(option)
    return [*arguments[: at + 1], value, *arguments[at + 2 :]]


def by_hand(folder: Path, table: list[dict[str, str]], costs: list[int]) -> tuple[dict[str, Any], nn.Linear]:
    """One pass of the page's loop, without dropout, from a head of zeros, over the batches that acclimate draws."""
    classes = sorted({row["label"] for row in table})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    bert = AutoModel.from_pretrained(folder, dtype=torch.float32, **still)
    head = nn.Linear(bert.config.hidden_size, len(classes))
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.Adam([*bert.parameters(), *head.parameters()], lr=1e-5)
    bert.train()
    for at in shuffled(costs, SIZE, 0, 0):
        chosen = [table[i] for i in at]
        batch = tokenizer([row["text"] for row in chosen], padding=True, truncation=True, return_tensors="pt")
        truth = torch.tensor([classes.index(row["label"]) for row in chosen])
        loss = nn.functional.cross_entropy(head(bert(**batch).pooler_output), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return bert.state_dict(), head


def test_the_command_gives_the_weights_of_the_loop_by_hand(folder: Path, tmp_path: Path) -> None:
    train = write_csv(tmp_path / "train.csv", rows(100))
    arguments = with_value(the_command(), "--model", str(folder))
    arguments = with_value(arguments, "--num-train-epochs", "1")
    assert arguments[:2] == ["fit", "train.csv"]  # which the test's own folder holds
    more = ["--set", "dropout=0", "--output-dir", str(tmp_path / "run"), "--quiet"]
    result = CliRunner().invoke(app, [*arguments, *more])
    assert result.exit_code == 0, result.output
    tokenizer = AutoTokenizer.from_pretrained(folder)
    table = list(csv.DictReader(train.read_text(encoding="utf-8").splitlines()))
    costs = [len(tokenizer(row["text"]).input_ids) for row in table]
    wanted, head = by_hand(folder, table, costs)
    found = load_file(tmp_path / "run" / "model" / "backbone" / "model.safetensors")
    before = AutoModel.from_pretrained(folder).state_dict()
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert torch.allclose(found[name], value, rtol=0, atol=1e-6), name
    moved = [name for name in wanted if (before[name] - found[name]).abs().max() > 1e-5]
    assert len(moved) > 30  # the comparison is not of weights that stood still
    mine = load_file(tmp_path / "run" / "model" / "head.safetensors")
    weight, bias = (next(v for v in mine.values() if v.shape == w.shape) for w in (head.weight, head.bias))
    assert weight.abs().max() > 1e-5
    assert torch.allclose(weight, head.weight, rtol=0, atol=1e-6)
    assert torch.allclose(bias, head.bias, rtol=0, atol=1e-6)


def test_every_option_of_the_command_is_explained_in_the_table() -> None:
    rows_of_table = "".join(line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|"))
    command = the_command()
    pairs = [f"{a} {b}" for a, b in zip(command, command[1:], strict=False) if a.startswith("--")]
    named_elsewhere = ("--label label", "--model hf:bert-base-cased", "--strategy full")
    assert [p for p in pairs if p not in named_elsewhere and p not in rows_of_table] == []
