"""`aiqvit compare --save-images`: pictures of the embedded data's samples that changed."""

from types import SimpleNamespace

import numpy as np
import pytest
from aiqvit.tasks.point_pictures import drawn
from aiqvit.tasks.points import shape_name
from PIL import Image

from aiqvit.cli.main import main
from aiqvit.cli.showing import captioned
from aiqvit.harness.store.records import Store, sealed
from aiqvit.interfaces import Outcomes, Task, UserError
from aiqvit.registry import TASKS
from tests.report.make_records import record


def keep(folder, method, task, names, arrays, data):
    """A run on the first of the embedded samples; returns its id."""
    said = Outcomes(tuple(names), arrays)
    made = record(method, "mini_vit", task.metrics_of(said, len(names)), task=task.label, limit=len(names),
                  val=task.val_images, data=data)
    digest = Store(folder).write_outcomes(made["id"], said)
    Store(folder).write(sealed({**made, "outcomes": digest}))
    return made["id"]


def test_pictures_of_what_changed_have_their_names_and_classes(tmp_path, capsys):
    task = TASKS.get("imagenet")("mini")
    data = task.identity(0, 0, 4).data
    names = [task._layout.ignored.name(task._val[i][0]) for i in task.chosen(4)]
    runs = [keep(tmp_path, method, task, names, {"label": np.zeros(4, int), "top5": np.array([[c], [0], [c], [c]])},
                 data) for method, c in (("minmax", 0), ("repqvit", 1))]
    pictures = tmp_path / "pictures"
    assert main(["compare", *runs, str(tmp_path), "--save-images", str(pictures)]) == 0
    assert "3 pictures in" in capsys.readouterr().out
    found = sorted(pictures.iterdir())
    assert [path.suffix for path in found] == 3 * [".png"] and found[0].name.startswith("01-")
    assert Image.open(found[0]).width >= 400


def test_data_that_the_runs_were_not_evaluated_on_is_refused(tmp_path, capsys):
    task = TASKS.get("imagenet")("mini")
    runs = [keep(tmp_path, method, task, ["x.png"], {"label": np.zeros(1, int), "top5": np.array([[c]])}, "d")
            for method, c in (("minmax", 0), ("repqvit", 1))]
    assert main(["compare", *runs, str(tmp_path), "--save-images", str(tmp_path / "p")]) == 2
    assert "is not what the runs were evaluated on" in capsys.readouterr().err and not (tmp_path / "p").exists()


def test_boxes_of_both_runs_are_drawn_side_by_side():
    pytest.importorskip("mmdet")
    task = TASKS.get("coco")("mini")
    name = task._files.name(0)
    boxes = [Outcomes((name,), {"box": np.array(box, np.float32).reshape(-1, 4), "score": np.ones(len(box)),
                                "category": np.zeros(len(box), int)}) for box in ([], [[10, 10, 60, 60]])]
    left, right = np.split(np.asarray(task.picture(boxes)), 2, axis=1)
    assert left.shape == right.shape and (left != right).any()
    plain = np.asarray(task.picture(boxes[:1]))
    assert (left == plain).all() and (right != plain).any(-1).mean() < 0.1  # the outline and the text


def test_text_stands_under_a_picture_that_is_enlarged():
    made = captioned(Image.new("RGB", (50, 40), "red"), ["a.png: class 1", "first: class 2"])
    assert made.width >= 400 and made.height > 320
    pixels = np.asarray(made)
    assert (pixels[:320, :400] == (255, 0, 0)).all() and (pixels[320:] < 100).all(-1).any()


def test_a_task_without_pictures_says_so():
    with pytest.raises(ValueError, match="'mine' has no pictures of its samples"):
        Task.picture(SimpleNamespace(name="mine"), [Outcomes(("x",), {})])


@pytest.mark.parametrize("name", ["modelnet40", "shapenetpart"])
def test_shapes_are_drawn_as_points(name):
    task = TASKS.get(name)("mini")
    pictures = [np.asarray(task.picture([Outcomes((shape_name(shape),), {})])) for shape in task.val[:2]]
    assert pictures[0].shape == (400, 400, 3) and (pictures[0] != pictures[1]).any()
    assert all(0.005 < (picture < 255).any(-1).mean() < 0.5 for picture in pictures)
    with pytest.raises(UserError, match="there is no 'x' in the data"):
        task.picture([Outcomes(("x",), {})])


def test_near_points_are_dark_and_in_front():
    front, back = np.asarray(drawn(np.array([[0, 0, -1.0], [0, 0, 1]]))), drawn(np.zeros((1, 3)))
    shades = np.unique(front[(front < 255).any(-1)][:, 0])
    assert len(shades) == 2 and (np.asarray(back) < 255).any()
