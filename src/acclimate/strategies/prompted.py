"""A language model asked for the class of a text: transfer without training."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from acclimate.backbones.prompted import Prompted
from acclimate.backbones.prompts import Prompt, drawn
from acclimate.backbones.writer import Writer
from acclimate.errors import UserError
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies.base import Problem, Splits
from acclimate.tasks.heads import LinearHead


@dataclass(frozen=True)
class Prompting:
    """z_k = log p(name of class k | prompt), less the same of the text "N/A"; with `shots` training rows in the prompt.

    Brown et al. 2020 (arXiv:2005.14165); contextual calibration: Zhao et al. 2021 (arXiv:2102.09690). Nothing is
    trained. The names of classes have to say what they mean: "negative", not 0.

    Use when: no labels are there yet, or to see what tuning adds. Prefer `linear_probe` from a few rows a class on.
    """

    writer: Writer
    shots: int = 0
    needs_backbone: bool = field(default=False, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Write the prompt, with examples drawn evenly over the classes."""
        if problem.task.name != "classify" or splits.train.kind != "text" or self.writer.encodes:
            raise UserError("a prompt is for classes of texts, and is read by a causal language model such as smollm2")
        classes = [str(c) for c in problem.decoder.classes]
        prompt = Prompt(f"Text: {{input}}\nLabel ({', '.join(classes)}):", chat=False)
        labels = [classes[int(i)] for i in problem.targets(splits.train)]
        texts = [x if isinstance(x, str) else "\n".join(x) for x in splits.train.inputs]
        examples = [(texts[i], labels[i]) for i in drawn(labels, self.shots, run.seed, even=True)]
        backbone = Prompted(self.writer, prompt, classes, examples)
        head = LinearHead(len(classes), len(classes))
        with torch.inference_mode():
            empty = backbone(backbone.collate(backbone.encode(["N/A"])))[0]
        with torch.no_grad():
            head.weight.copy_(torch.eye(len(classes)))
            head.bias.copy_(-empty)
        name = "few_shot" if self.shots else "zero_shot"
        return Predictor(problem.task, problem.decoder, head, backbone, None, name, {"shots": self.shots})


def prompts(writer: Writer, shots: int) -> dict[str, Prompting]:
    """Without examples and with some."""
    return {"zero_shot": Prompting(writer), "few_shot": Prompting(writer, shots)}
