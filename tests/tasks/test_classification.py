"""What a classifier says, against sums written out, and weights against samples that are really repeated."""

import numpy as np
import pytest
import torch
from aiqvit.tasks.classification import accuracy, class_mean, faithfulness, said

from aiqvit.interfaces import Outcomes


def outcomes(classes=7, samples=40, plain=True):
    generator = torch.Generator().manual_seed(0)
    logits, full = torch.randn(2, samples, classes, generator=generator)
    labels = torch.randint(classes, (samples,), generator=generator)
    found = said(logits, labels, full if plain else None)
    return logits, labels, full, Outcomes(tuple(map(str, range(samples))), found)


def test_metrics_are_those_of_sums_written_out():
    logits, labels, full, found = outcomes()
    top1 = top5 = same = 0
    divergence = 0.0
    for row, label, other in zip(logits.tolist(), labels.tolist(), full.tolist(), strict=True):
        order = sorted(range(7), key=lambda k: -row[k])
        top1, top5 = top1 + (order[0] == label), top5 + (label in order[:5])
        same += order[0] == max(range(7), key=lambda k: other[k])
        p, q = (np.exp(values) / np.exp(values).sum() for values in (np.array(other), np.array(row)))
        divergence += (p * np.log(p / q)).sum()
    scores = {name: value.item() for name, value in accuracy(found, found.once()).items()}
    assert scores == {"top1": 100 * (top1 / 40), "top5": 100 * (top5 / 40), "agreement": 100 * (same / 40),
                      "kl": pytest.approx(divergence / 40, rel=1e-5)}


def test_of_equal_logits_the_first_class_comes_first():
    found = said(torch.tensor([[1.0, 2, 2, 0, 2, 2, 2, 2]]), torch.tensor([1]))
    assert found["top5"].tolist() == [[1, 2, 4, 5, 6]]


def test_a_model_of_few_classes_has_fewer_than_five():
    found = Outcomes(("a",), said(torch.tensor([[0.0, 1, 2]]), torch.tensor([0])))
    assert found.arrays["top5"].shape == (1, 3)
    assert {k: v.item() for k, v in accuracy(found, found.once()).items()} == {"top1": 0, "top5": 100}


def test_full_precision_agrees_with_itself():
    logits, labels, _, _ = outcomes()
    found = Outcomes(tuple("a" * 40), said(logits, labels, logits))
    assert {k: v.item() for k, v in faithfulness(found, found.once()).items()} == {"agreement": 100, "kl": 0}


def test_without_full_precision_nothing_is_said_of_it():
    *_, found = outcomes(plain=False)
    assert set(accuracy(found, found.once())) == {"top1", "top5"}


def test_samples_without_a_label_leave_the_accuracy_undefined():
    logits, labels, full, _ = outcomes()
    labels[3] = -1
    found = Outcomes(tuple("a" * 40), said(logits, labels, full))
    scores = accuracy(found, found.once())
    assert np.isnan(scores["top1"]) and np.isnan(scores["top5"]) and scores["agreement"] > 0


def test_a_weight_is_a_sample_that_is_there_as_often():
    *_, found = outcomes()
    weights = np.random.default_rng(0).multinomial(40, np.full(40, 1 / 40), 5)
    scores = accuracy(found, weights)
    for row, count in enumerate(weights):
        index = np.repeat(np.arange(40), count)
        drawn = Outcomes(tuple(map(str, index)), {name: array[index] for name, array in found.arrays.items()})
        for name, value in accuracy(drawn, drawn.once()).items():
            assert scores[name][row] == pytest.approx(value.item())


def test_classes_that_a_weighting_leaves_out_do_not_count():
    labels, values = np.array([0, 0, 5, 9]), np.array([1, 0, 1, 0])
    weights = np.array([[1, 1, 1, 1], [1, 3, 1, 0], [0, 0, 0, 2]])
    assert class_mean(labels, values, weights) == pytest.approx([0.5, (0.25 + 1) / 2, 0])
