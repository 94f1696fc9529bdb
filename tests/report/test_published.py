"""Published numbers: the file is sound, and they stand beside ours."""

from aiqvit.registry import METHODS
from aiqvit.report import published
from tests.report.test_tables import make, table


def test_every_row_is_complete_and_of_a_registered_method():
    assert published.rows()
    for row in published.rows():
        assert row["method"] in METHODS.names() and row["source"] and 0 <= float(row["value"]) <= float(row["fp32"])


def test_changes_are_relative_to_the_sources_own_full_precision():
    found = published.changes("imagenet", "deit_tiny", "aiqvit", "3/3", "top1")
    assert {source: round(value, 1) for source, value in found.items()} == {"AIQViT": -33.7}
    assert len(published.changes("imagenet", "deit_tiny", "qdrop", "3/3", "top1")) == 4
    assert published.changes("imagenet-mini", "deit_tiny", "qdrop", "3/3", "top1") == {}


def test_a_column_appears_for_models_with_published_numbers():
    shown = table(make("repqvit", "deit_tiny", 70.0, label="Fake_1"), make("repqvit", "b", 70.0, label="Fake_1"),
                  make("repqvit", "deit_tiny", 70.0, label="Fake_1 [x=1]"))
    assert shown.header[-2:] == ["Minutes", "deit_tiny published"]
    assert [row[-1] for row in shown.rows] == ["-14.8 (RepQ-ViT)", "—"]
    assert any(note.startswith("published:") for note in shown.notes)
