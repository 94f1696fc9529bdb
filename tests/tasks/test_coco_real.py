"""On real COCO images, where they are: the loader, ground truth fed back, calibration at full size."""

import pytest

pytest.importorskip("mmdet")

from aiqvit.tasks.coco import Coco  # noqa: E402

from tests.detection import ground_truth, scores  # noqa: E402


@pytest.fixture
def task(shared):
    root = shared / "data" / "coco"
    if not root.is_dir():
        pytest.skip("no COCO beside the repository")
    return Coco(str(root))


def test_ground_truth_fed_back_is_perfect(task):
    files = task._files
    found = scores(files, [ground_truth(files, identity) for identity in files.ids], files.ids)
    del found["images"], found["skipped"]
    assert {key: value for key, value in found.items() if value != 100} == {}
    assert len(found) == 12


def test_calibration_images_come_one_by_one_in_the_test_pipeline(task):
    batches = task.calibration(None, 6, 0)
    sizes = {tuple(sample["inputs"].shape[1:]) for batch in batches for sample in batch}
    assert [len(batch) for batch in batches] == [1] * 6 and len(sizes) > 1
    assert all(min(size) <= 800 and max(size) <= 1333 and (min(size) == 800 or max(size) == 1333) for size in sizes)
