"""What every structured task keeps: the same answers after saving, frozen weights, seeds, a run that was killed."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

import acclimate
from acclimate.errors import UserError
from acclimate.report.results import lower_better
from acclimate.structured import TASKS, bundle, task_named
from acclimate.structured.measuring import metric_of
from stopping import killed_at

sys.path.append(str(Path(__file__).parent))
from task_examples import EXAMPLES, Example, fit

Made = tuple[str, Example, Path]


@pytest.fixture(scope="module", params=sorted(TASKS))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A task, its example, and the folder of a run."""
    folder = tmp_path_factory.mktemp(request.param)
    one = EXAMPLES[request.param](folder)
    fit(request.param, one, folder / "run")
    return request.param, one, folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = bundle.load(folder / "run" / "model" if (folder / "run").is_dir() else folder / "model").network
    return {name: value.clone() for name, value in found.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_is_whole(made: Made) -> None:
    task, _, folder = made
    run = folder / "run"
    about = json.loads((run / "run.json").read_text())
    assert about["task"] == task and (run / "report.html").is_file() and (run / "report.md").is_file()
    numbers = json.loads((run / "metrics.json").read_text())
    assert numbers["metric"] in numbers["metrics"] and numbers["n"] > 0 and numbers["baseline"]
    for account in json.loads((run / "audit.json").read_text()):
        assert account["read"] == account["kept"] + sum(map(len, account["dropped"].values()))


def test_answers_are_the_same_after_saving_and_loading(made: Made, tmp_path: Path) -> None:
    _, one, folder = made
    loaded = acclimate.load(folder / "run")
    copied = acclimate.load(loaded.save(tmp_path / "copy"))
    assert len(loaded.predict(one.new)) == len(one.new)
    assert repr(loaded.predict(one.new)) == repr(copied.predict(one.new))


def test_a_row_alone_has_the_answer_that_it_has_among_others(made: Made) -> None:
    _, one, folder = made
    model = acclimate.load(folder / "run")
    together = model.predict(one.new)
    assert repr([model.predict([x])[0] for x in one.new]) == repr(together)


def test_what_is_frozen_stays_as_it_was(made: Made) -> None:
    _, one, folder = made
    learned = bundle.load(folder / "run" / "model")
    torch.manual_seed(0)
    before = learned.task.network(one.model, learned.state, {}).backbone.state_dict()
    after = learned.network.backbone.state_dict()
    about = json.loads((folder / "run" / "model" / "acclimate.json").read_text())
    moved = {name.removeprefix("backbone.") for name in about["trained"]}
    parts = {name.rpartition(".")[0] for name in moved}  # whose running statistics may move
    frozen = [name for name in before if name not in moved and name.rpartition(".")[0] not in parts]
    assert frozen and all(torch.equal(before[name], after[name]) for name in frozen)
    assert any(not torch.equal(before[name], after[name]) for name in moved if name in before)


def test_a_seed_gives_the_same_weights_and_a_killed_run_too(made: Made, tmp_path: Path) -> None:
    task, one, folder = made
    killed_at(3, lambda: fit(task, one, tmp_path / "run", checkpoint_every=0))
    fit(task, one, tmp_path / "run", checkpoint_every=0, resume=True)
    assert same(weights(folder), weights(tmp_path))


def test_an_empty_set_of_rows_has_metrics_without_values(made: Made) -> None:
    task, _, folder = made
    one = task_named(task)
    measures = one.measures([], [], bundle.load(folder / "run" / "model").state)
    assert metric_of(one, measures, None) in measures
    for name, measure in measures.items():
        assert measure.greater_is_better == (not lower_better(name)), name


def test_evaluate_counts_rows_that_were_learned_from(made: Made) -> None:
    _, one, folder = made
    scores = acclimate.load(folder / "run").evaluate(str(one.train))
    assert any("learned from" in note for note in scores.notes)


def test_evaluate_shows_the_baselines_of_the_run(made: Made, tmp_path: Path) -> None:
    _, one, folder = made
    judged = json.loads((folder / "run" / "metrics.json").read_text())
    found = acclimate.load(folder / "run").evaluate(str(one.test))
    assert found.baseline.keys() == judged["baseline"].keys()
    for name, row in judged["baseline"].items():
        assert found.baseline[name]["value"] == row["value"]
        assert found.baseline[name]["difference"] == row["difference"]
    shutil.copytree(folder / "run", tmp_path / "run")
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    about["arguments"]["train_data"] = "elsewhere.csv"
    (tmp_path / "run" / "run.json").write_text(json.dumps(about))
    moved = acclimate.load(tmp_path / "run").evaluate(str(one.test))
    assert not moved.baseline and any("elsewhere.csv is no longer there" in note for note in moved.notes)


def test_what_has_no_meaning_is_refused_by_name(made: Made, tmp_path: Path) -> None:
    task, one, _ = made
    with pytest.raises(UserError, match="target-data"):
        fit(task, one, tmp_path / "run", target_data=str(one.test))
    with pytest.raises(UserError, match="hold"):
        fit(task, one, tmp_path / "run", hold="l2_sp")
    for option in ("weight_column", "domain_column", "subgroup_column"):
        with pytest.raises(UserError, match=f"{option.partition('_')[0]}-column: task"):
            fit(task, one, tmp_path / "run", **{option: "x"})
    with pytest.raises(UserError, match="pooling"):
        fit(task, one, tmp_path / "run", pooling="cls")
    with pytest.raises(UserError, match="known"):
        fit(task, one, tmp_path / "run", settings={"no_such": 1})
    with pytest.raises(UserError, match="strategy for task"):
        fit(task, one, tmp_path / "run", strategy="knn")
