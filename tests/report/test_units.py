"""The log of a run as a table."""

from aiqvit.report.units import markdown

RECORD = {
    "spec": {"model": "m", "bits": "3/3", "seed": 0},
    "log": [
        {"unit": "patch_embed", "loss_before": 0.25, "kept": True, "ranks": {"proj": [40, [0.1, 0.9]]}},
        {"unit": "blocks.0", "loss_before": 1.23456, "kept": False, "ranks": {}, "b1": [0.001], "b2": [0.5]},
    ],
}


def test_every_logged_value_has_its_place():
    lines = markdown(RECORD, "AIQViT").splitlines()
    assert lines[0] == "m AIQViT 3/3 seed 0, by unit:"
    assert lines[2] == "| unit | loss_before | kept | ranks | b1 | b2 |"
    assert lines[4] == "| patch_embed | 0.25 | yes | proj 40 |  |  |"
    assert lines[5] == "| blocks.0 | 1.235 | no |  | 0.001 | 0.5 |"


def test_nothing_logged_gives_nothing():
    assert markdown({**RECORD, "log": []}, "AIQViT") == ""
