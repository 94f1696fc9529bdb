"""COCO annotations with something missing, twice, or wrong: defaulted, counted or refused by name."""

import json
from pathlib import Path

import pytest

pytest.importorskip("pycocotools")

from aiqvit.tasks.detection.annotations import read_annotations  # noqa: E402

from aiqvit.interfaces import UserError  # noqa: E402

SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]


def entry(number, **changes):
    found = {"id": number, "image_id": 1, "category_id": 3, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0,
             "segmentation": SQUARE}
    return {key: value for key, value in {**found, **changes}.items() if value != "gone"}


def content(*entries, **changes):
    images = [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 50}, {"id": 7, "file_name": "b.jpg", "width": 60,
                                                                             "height": 50}]
    return {"images": images, "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}],
            "annotations": list(entries), **changes}


@pytest.fixture
def read(tmp_path):
    """Read a content; `sizes` are those of the pictures."""

    def call(value, encoding="utf-8", **sizes):
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(value), encoding=encoding)
        return read_annotations(path, Path, lambda file: sizes.get(file.stem))

    return call


DOG = "1 of 2 categories have no annotation and do not count; the first is 'dog'"


def test_what_is_complete_stays(read):
    found = read(content(entry(5), entry(6, category_id=9, image_id=7)))
    assert found.remarks == [] and found.masks and found.categories == {"cat": 3, "dog": 9}
    assert [image["id"] for image in found.images] == [1, 7] and [e["id"] for e in found.entries] == [5, 6]
    assert found.entries[0] == {**entry(5), "bbox": [10.0, 10.0, 20.0, 20.0]}
    assert found.scored() == 2 and found.scored([7]) == 1
    assert read(content(entry(5)), "utf-8-sig").scored() == 1


@pytest.mark.parametrize(
    ("changes", "expected", "said"),
    [
        ({"iscrowd": "gone"}, {"iscrowd": 0}, "have no 'iscrowd': taken as 0; the first is 5"),
        ({"iscrowd": None}, {"iscrowd": 0}, "have no 'iscrowd'"),
        ({"iscrowd": "0"}, {"iscrowd": 0}, ""),
        ({"area": "gone"}, {"area": 400.0}, "have no usable 'area': it is taken from the segmentation or the box"),
        ({"area": None, "segmentation": [[10, 10, 30, 10, 30, 20, 10, 20]]}, {"area": 200.0}, "have no usable 'area'"),
        ({"area": "gone", "segmentation": "gone"}, {"area": 400.0}, "have no usable 'segmentation': box AP only"),
        ({"segmentation": []}, {"area": 400}, "have no usable 'segmentation'"),
        ({"segmentation": [[1, 2, 3, 4]]}, {"area": 400}, "have no usable 'segmentation'"),
        ({"segmentation": {"size": [9, 9], "counts": [81]}}, {"area": 400}, "have no usable 'segmentation'"),
        ({"bbox": "gone"}, {"bbox": [10, 10, 20, 20]}, "have no 'bbox': it is taken from the segmentation"),
        ({"bbox": [90, 10, 20, 20]}, {"bbox": [90, 10, 20, 20]}, "have a box that ends outside of its picture"),
        ({"bbox": [10, 10, 0, 0]}, {"bbox": [10, 10, 0, 0]}, ""),
    ],
)
def test_what_is_missing_is_defaulted_and_counted(read, changes, expected, said):
    found = read(content(entry(5, **changes), entry(6)))
    assert found.entries[0] | expected == found.entries[0] and found.scored() == 2
    assert [remark for remark in found.remarks if remark != DOG and said not in remark] == [] or "area" in changes
    assert not said or any(remark.startswith(f"1 of 2 annotations {said}") for remark in found.remarks)
    assert found.masks == ("segmentation" in found.entries[0])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bbox": [10, 10, -20, 20]}, "have a box of negative size and are left out; the first is 5, [10, 10, -20,"),
        ({"bbox": [200, 10, 20, 20]}, "have a box outside of its picture and are left out"),
        ({"bbox": [10, 10, 20]}, "have a 'bbox' that is not four finite numbers and are left out"),
        ({"bbox": [10, 10, float("nan"), 20]}, "have a 'bbox' that is not four finite numbers"),
        ({"bbox": "gone", "segmentation": "gone"}, "have neither 'bbox' nor 'segmentation' and are left out"),
        ({"image_id": 4}, "name an image that is not listed and are left out; the first is 5, with 4"),
        ({"category_id": "gone"}, "name a category that is not listed and are left out; the first is 5, with None"),
    ],
)
def test_what_cannot_be_scored_is_left_out_and_counted(read, changes, said):
    found = read(content(entry(5, **changes), entry(6)))
    assert [e["id"] for e in found.entries] == [6]
    assert found.remarks[0].startswith(f"1 of 2 annotations {said}") and found.remarks[1:] == [DOG]


def test_ids_are_made_whole_numbers(read):
    images = [{"id": "x", "file_name": "a.jpg", "width": 100, "height": 50},
              {"id": "12", "file_name": "b.jpg", "width": 60, "height": 50}]
    found = read(content(entry(5, image_id=12), entry(5, image_id="x", category_id="3"), images=images))
    assert [e["image_id"] for e in found.entries] == [2, 1] and [e["id"] for e in found.entries] == [1, 2]
    assert found.remarks[:2] == ["the ids of images are no whole numbers: they were numbered anew",
                                 "ids of annotations were numbered anew: 5 is there twice"]
    assert [e["id"] for e in read(content(entry(0), entry(1))).entries] == [1, 2]  # for COCO's tools 0 is no object


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (content(images=[{"id": 1, "file_name": "a"}, {"id": 1.0, "file_name": "b"}]), "image id 1.0 is there twice"),
        (content(images=[{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "a"}]), "two images have one file"),
        (content(images=[{"id": 1}]), "image 1 has no 'file_name'"),
        (content(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]), "category id 1 is there twice, for 'a'"),
        (content(categories=[{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]), "two categories of one name"),
        (content(categories=[]), "has none"),
        (content(annotations={}), "no list 'annotations'"),
        (content(images=None), "no list 'images'"),
        ([], "no list 'images'"),
    ],
)
def test_what_contradicts_itself_is_refused(read, value, said):
    with pytest.raises(UserError, match=said):
        read(value)


def test_sizes_come_from_the_pictures(read):
    images = [{"id": 1, "file_name": "a.jpg"}]
    (image,) = read(content(entry(5), images=images), a=(100, 50)).images
    assert (image["width"], image["height"]) == (100, 50)
    with pytest.raises(UserError, match="another size for 1 pictures: 'b.jpg' is 50 x 60, not 60 x 50"):
        read(content(entry(5)), b=(50, 60))


def test_nothing_to_score_is_said(read):
    every = ", so that every metric is undefined, shown as -"
    assert read(content()).remarks == [f"nothing to score: there are no annotations{every}"]
    assert read(content(annotations=None)).remarks == [f"nothing to score: there are no annotations{every}"]
    assert read(content(images=[])).images == []
    crowds = read(content(entry(5, iscrowd=1)))
    assert crowds.remarks == [f"nothing to score: all annotations are crowds{every}"] and crowds.scored() == 0


@pytest.mark.parametrize("value", [10**400, 1e308, float("inf"), "x" * 5000, ["x"], {"a": [1]}, "\ud800", True, -1,
                                   "~a/b", "a\0b"])
@pytest.mark.parametrize("place", ["id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "width",
                                   "height", "file_name", "name", "image", "category"])
def test_values_of_every_kind_are_refused_or_left_out(read, value, place):
    made = content(entry(5), entry(6))
    if place in ("width", "height", "file_name", "image"):
        made["images"][0]["id" if place == "image" else place] = value
    elif place in ("name", "category"):
        made["categories"][0]["id" if place == "category" else place] = value
    else:
        made["annotations"][0][place] = value
    try:
        found = read(made)
    except UserError as error:
        assert len(str(error)) < 1500 and "\n" not in str(error)
    else:
        assert all(len(remark) < 1500 for remark in found.remarks)
        assert all(0 <= e["area"] < 2**53 and e["id"] < 2**53 and e["iscrowd"] in (0, 1) for e in found.entries)
        assert all(0 <= image[side] < 10**5 for image in found.images for side in ("width", "height"))


def test_files_beyond_the_limit_and_too_deep(read, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="is not JSON"):
        (tmp_path / "deep.json").write_text('{"images": ' + "[" * 100_000)
        read_annotations(tmp_path / "deep.json", Path, lambda file: None)
    monkeypatch.setenv("AIQVIT_MAX_ANNOTATIONS_MIB", "1")
    with pytest.raises(UserError, match="larger than 1 MiB .AIQVIT_MAX_ANNOTATIONS_MIB"):
        read(content(info=" " * 2**20))
