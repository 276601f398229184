"""`--prompt`: what a language model answers when it is asked stands beside the model that was fitted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import acclimate
import tiny_models as tm
from acclimate.backbones import load
from acclimate.backbones.prompted import Prompted
from acclimate.backbones.prompts import Prompt
from acclimate.errors import UserError


def test_features_are_log_probabilities_of_class_names_and_rows_do_not_mix(tmp_path: Path) -> None:
    writer = load(str(tm.write("llama", tmp_path / "llama", layers=1)), writes=True)
    one = Prompted(writer, Prompt("{input} -"), ["good warm", "bad"], [("kind", "bad")])  # type: ignore[arg-type]
    rows = one.encode(["stone", ("paper river", "kind"), "good"])
    with torch.inference_mode():
        found = one(one.collate(rows))
        alone = torch.cat([one(one.collate([row])) for row in rows])
        ids = rows[0].parts[0]["input_ids"]
        bad = one.writer.tokenizer.convert_tokens_to_ids("bad")
        log_p = one.writer.inner(torch.tensor([[*ids, bad]])).logits[0].log_softmax(-1)
        end = one.writer.tokenizer.eos_token_id
    assert torch.allclose(found, alone, atol=1e-5)
    assert float(found[0, 1]) == pytest.approx(float(log_p[-2, bad] + log_p[-1, end]), abs=1e-4)


def test_a_fit_shows_the_prompts_and_saves_no_language_model(tmp_path: Path) -> None:
    data = tm.rows(120, labels=("cold", "warm"))
    rows = [{"text": x, "label": y} for x, y in zip(data.inputs, data.labels or (), strict=True)]
    bert, llama = (str(tm.write(kind, tmp_path / kind, layers=1)) for kind in ("bert", "llama"))
    usual = {"model": bert, "strategy": "linear_probe", "prompt": llama, "quiet": True}
    for name, more in (("folds", {}), ("test", {"test_data": rows[:40]})):
        model = acclimate.fit(rows[40:], output_dir=tmp_path / name, **more, **usual)  # type: ignore[arg-type]
        assert model.scores is not None
        assert {"zero_shot", "few_shot", "majority"} <= set(model.scores.baseline)
        assert "a prompt with examples" in (tmp_path / name / "report.md").read_text()
        assert not {"zero_shot", "few_shot"} & {f.name for f in (tmp_path / name / "baselines").glob("*")}
        assert acclimate.load(tmp_path / name).predict(["warm stone"])
    with pytest.raises(UserError, match="--prompt asks a language model for the class"):
        acclimate.fit([{**r, "label": i} for i, r in enumerate(rows)], output_dir=tmp_path / "no", task="regress",
                      **usual)  # type: ignore[arg-type]  # fmt: skip
    with pytest.raises(UserError, match="does not write"):
        acclimate.fit(rows, output_dir=tmp_path / "no", **{**usual, "prompt": bert})  # type: ignore[arg-type]
