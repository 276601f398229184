"""Cases A1 to A12 and the known defects of other libraries: where each is tested, and those that stand here.

The map is data, and a test looks every entry up, so that a test that is renamed or lost shows. Not in the map, since
this library has none of them: CAN's class-wise discrepancy, DomainBed's gradient penalty, penalties that tie weights to
the pretrained ones (L2-SP, DELTA, BSS, StochNorm, Co-Tuning), OTCE.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from acclimate.align.adversarial import Cdan, Dann
from acclimate.align.moments import Jan, Mmd
from acclimate.data.rows import Data
from acclimate.run import Run
from acclimate.strategies import Splits, named
from acclimate.strategies.sourcefree import Shot
from acclimate.tasks import TASKS
from feature_rows import feature_problem

TESTS = Path(__file__).parents[1]
HERE = "cases/test_adaptation_cases.py"

CASES = {  # what must hold -> file: tests
    "A1 equal batches at distance 0; unbiased may be negative": {
        "align/test_contract.py": "equal_batches_are_at_distance_0",
        "align/test_moments.py": "equal_batches_are_at_0_for_any_number_of_kernels unbiased_is_0_on_average",
        HERE: "unbiased_says_that_it_may_be_negative",
    },
    "A2 constant features": {
        "align/test_contract.py": "constant_features_are_no_trouble one_dead_domain_is_no_trouble",
        "strategies/test_adaptations.py": "rows_that_are_all_alike",
    },
    "A3 unequal batches, single rows, both domains read whole": {
        "align/test_contract.py": "unequal_batches_give batches_of_one_row_are_defined",
        "train/test_pairs.py": "an_epoch_reads_every_source_row_once",
        "strategies/test_adaptations.py": "any_two_numbers_of_rows",
    },
    "A4 weight 0 is the source alone; a large weight misleads the critic; the gradient is there": {
        "strategies/test_adaptations.py": "without_weight_it_is_training_on_the_source_alone",
        "strategies/test_paired.py": "without_weight_or_alignment_it_is_what_it_was",
        "align/test_moments.py": "a_step_along_the_gradient_brings_the_domains_together",
        HERE: "a_weight_that_counts_misleads_the_critic",
    },
    "A5 strength of the reversal by progress alone": {
        "align/test_adversarial.py": "the_strength_depends_on_progress_alone at_the_start_the_features_are_left_alone",
        "train/test_pairs.py": "progress_is_the_share_of_steps_that_are_done",
    },
    "A6 no target label within reach": {
        "strategies/test_adaptations.py": "labels_of_the_target_are_never_read splits_take_labels",
        "shallow/test_contracts.py": "target_labels_are_never_read",
        "validate/test_pick.py": "no_label_of_the_target_has_a_place",
        "strategies/test_paired.py": "target_labels_are_never_read",
    },
    "A7 DEV": {
        "validate/test_oracles.py": "dev_is_its_formula dev_with_weights_of_one dev_finds_the_target_risk",
    },
    "A8 order of rows": {
        "shallow/test_contracts.py": "the_order_of_the_rows_does_not_matter",
        "strategies/test_adaptations.py": "the_order_of_rows_makes_no_difference",
    },
    "A9 label shift": {
        "strategies/test_shifts.py": "class_shares_that_move_harm_by_as_much_as_is_said",
        "shift/test_shift.py": "under_label_shift_maps_harm",
        "validate/test_pick.py": "label_shift_without_any_other_shift",
    },
    "A10 partial target": {
        "strategies/test_source_weights.py": "source_rows_of_absent_classes_fade the_plain_run_is_flagged",
        "validate/test_pick.py": "classes_that_the_target_lacks",
    },
    "A11 Tent": {
        "testtime/test_tent.py": "a11_single_rows reset_brings_back_every_bit after_a_collapse_the_rows "
        "after_a_collapse_a_stream",
    },
    "A12 transferability": {
        "test_transferability.py": "logme_is_the_exact_evidence a_source_class_that_is_never_predicted "
        "random_labels_with_many_columns degenerate_features_are_finite",
    },
}

DEFECTS = {  # whose, and what -> file: tests that show it absent
    "TLLib MMD: a constant is added, sigma ignored, NaN on constant rows, n x n x d in memory": {
        "align/test_contract.py": "equal_batches_are_at_distance_0 constant_features no_tensor_is_larger",
        "align/test_moments.py": "a_given_bandwidth_is_the_one_that_is_used the_default_of_both_is_all_pairs",
    },
    "pytorch-adapt, skada MMD: bandwidth of the source alone, sum of kernels that are not Gaussian": {
        "align/test_moments.py": "the_bandwidth_is_of_both_domains the_kernels_are_gaussian_and_their_mean",
    },
    "AdaTime MMD: no gradient": {"align/test_moments.py": "a_step_along_the_gradient"},
    "TLLib JMMD: a diagonal that is not that of the kernels": {
        "align/test_moments.py": "equal_batches_are_at_0_for_any_number_of_kernels",
    },
    "TLLib, DomainBed, AdaTime CORAL: means mixed in, other divisors": {
        "align/test_moments.py": "coral_is_that_of_the_covariances_with_n_minus_1",
    },
    "TLLib GRL: a counter of calls, 0.46 at the end": {
        "align/test_adversarial.py": "the_strength_depends_on_progress_alone",
    },
    "TLLib CDAN: the random map is not saved; entropy weights of both domains together": {
        "align/test_adversarial.py": "the_random_map_is_saved entropy_weights_are_of_each_domain_and_constant",
    },
    "TLLib MDD: log(1 - p) is clamped": {"align/test_adversarial.py": "mdd_is_finite_where"},
    "MCC of TLLib, pytorch-adapt, skada: NaN for a class without mass": {
        "align/test_confusion.py": "mcc_of_a_class_that_vanishes",
        "align/test_contract.py": "a_class_without_mass_is_no_trouble",
    },
    "AFN, BSP: values": {"align/test_norms.py": "afn_has_a_constant_value bsp_of_more_than_one_value"},
    "Tent: BatchNorm2d alone, single rows, no guard": {
        "testtime/test_tent.py": "one_batch_is_answered_before a_last_batch_of_one_row after_a_collapse_the_rows",
    },
    "SHOT: head held, pseudo-labels by centroids": {
        "strategies/test_sourcefree.py": "pseudo_labels a_class_without_rows",
        HERE: "shot_holds_the_last_layer",
    },
    "LogME: a term left out favours wide features; NaN": {
        "test_transferability.py": "logme_is_the_exact_evidence logme_does_not_favour_wide_noise degenerate_features",
    },
    "LEEP, NCE: NaN for a class never predicted": {"test_transferability.py": "a_source_class_that_is_never_predicted"},
    "H-score: random labels at the maximum": {"test_transferability.py": "random_labels_with_many_columns"},
    "TransRate: classes count alike": {"test_transferability.py": "transrate_weighs_classes"},
    "GBC: by hand": {"test_transferability.py": "gbc_by_hand"},
    "Proxy A-distance: unseeded, negative, 2.0 everywhere": {
        "shift/test_shift.py": "the_distance_is_never_negative domains_that_are_alike_and_unlike",
    },
    "skada DEV: an outer product in place of a product; pytorch-adapt DEV: no guard": {
        "validate/test_oracles.py": "dev_is_its_formula_and_not_the_product_of_means losses_and_weights_of_unlike "
        "domains_that_do_not_overlap weights_that_are_all_zero",
    },
    "SND: the diagonal, and collapse": {
        "validate/test_oracles.py": "soft_density_is_its_formula collapsed_predictions_have_the_highest",
    },
    "skada entropy scorer: divisor": {"validate/test_oracles.py": "confidence_and_infomax_are_their_formulas"},
    "skada TCA, TJM: rows leave in another order; asymmetric matrix; tiny embeddings": {
        "shallow/test_formulas.py": "shuffled_rows_stay tca_is_the_formula keeps_tiny_embeddings_apart",
    },
    "skada DANN, CDAN: a softmax over one unit has no gradient": {
        "align/test_adversarial.py": "the_critic_learns_to_tell_the_domains",
        HERE: "the_adversary_moves_the_features",
    },
    "skada: scikit-learn's settings are changed": {"shallow/test_contracts.py": "no_setting_of_scikit_learn"},
}


@pytest.mark.parametrize("what", [*CASES, *DEFECTS])
def test_the_map_is_true(what: str) -> None:
    for file, names in {**CASES, **DEFECTS}[what].items():
        defined = re.findall(r"def test_(\w+)", (TESTS / file).read_text(encoding="utf-8"))
        for part in names.split():
            assert any(part in name for name in defined), f"{what}: no test of {part!r} in {file}"


def test_all_twelve_cases_are_in_the_map() -> None:
    assert [name.split()[0] for name in CASES] == [f"A{k}" for k in range(1, 13)]


D, K = 10, 4
TASK = TASKS["classify"]


def points(n: int, seed: int, move: float) -> Data:
    """One Gaussian a class; every third column is moved up, every third down."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % K
    x = rng.normal(size=(n, D)) + move * (np.arange(D) % 3 - 1)
    x[np.arange(n), labels] += 3.0
    return Data(tuple(map(tuple, x.round(4).tolist())), tuple(labels.tolist()), clusters=np.arange(n))


problem = partial(feature_problem, D, K)  # rows of numbers that are their own features


SOURCE, TARGET = points(400, 0, 0.0), points(300, 1, 0.7)


def told(weight: float) -> float:
    """The critic's accuracy, in per cent, as the fitted model reports it."""
    settings = {"align": "dann:hidden=16", "weight": weight, "bottleneck": 32, "learning_rate": 2e-3}
    strategy = named("dann", {**settings, "num_train_epochs": 20})[1]
    note = strategy.fit(problem(), Splits(SOURCE, target=TARGET), Run(seed=0)).notes[0]
    found = re.match(r"dann:hidden=16: its critic tells the domain of (\d+) % of the rows", note)
    assert found is not None, note
    return float(found[1])


def test_a_weight_that_counts_misleads_the_critic() -> None:
    """A4: the accuracy of the domain classifier is reported; it is high where features hardly follow it, and near
    chance where they do."""
    assert told(1e-4) > 70
    for weight in (1.0, 3.0):
        assert 42 < told(weight) < 62


@pytest.mark.parametrize("name", ["dann", "cdan"])
def test_the_adversary_moves_the_features(name: str) -> None:
    """The defect of A4: with a critic that says 1 to every row, any weight gives the same encoder."""
    weights = []
    for weight in (0.0, 1.0, 10.0):
        strategy = named(name, {"weight": weight, "num_train_epochs": 2, "bottleneck": 8})[1]
        weights.append(strategy.fit(problem(), Splits(SOURCE, target=TARGET), Run(seed=0)).head.inner.weight)
    assert not torch.allclose(weights[0], weights[1], atol=1e-4)
    assert not torch.allclose(weights[1], weights[2], atol=1e-4)
    assert all(kind(hidden=4).attach(3, 2).critic[-1].out_features == 1 for kind in (Dann, Cdan))


def test_unbiased_says_that_it_may_be_negative() -> None:
    """A1."""
    assert "also below 0" in str(Mmd.__doc__)
    for kind in (Mmd, Jan):
        assert kind().estimator == "biased"  # exactly 0 for equal batches


def test_shot_holds_the_last_layer() -> None:
    """Only the features learn from the target: the last layer is that of the source, bit for bit."""
    lasts = []
    for passes in (1, 3):
        strategy = Shot(num_train_epochs=2, target_epochs=passes, bottleneck=8)
        lasts.append(strategy.fit(problem(), Splits(SOURCE, target=TARGET), Run(seed=0)).head)
    assert torch.equal(lasts[0].last.weight, lasts[1].last.weight)
    assert torch.equal(lasts[0].last.bias, lasts[1].last.bias)
    assert not torch.equal(lasts[0].inner.weight, lasts[1].inner.weight)
