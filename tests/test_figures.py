"""Figures: each is drawn from records that have its data, with labels, units and one colour a method."""

import pytest

pytest.importorskip("matplotlib")

from aiqvit.catalogue import Registered
from aiqvit.figures import main
from aiqvit.report import plots, records, style
from tests.report.make_records import record, write

LOG = [{"unit": f"blocks.{i}", "loss_before": 1.0, "loss_after": 0.5 + i, "kept": i < 2, "b1": [0.01],
        "b2": [0.5 - 0.1 * i]} for i in range(3)]


@pytest.fixture
def part(tmp_path):
    made = [record("fp32", "m", {"top1": 80.0}), record("fp32", "n", {"top1": 81.0})]
    for bits, value in (("3/3", 50.0), ("4/4", 70.0)):
        made += [record("aiqvit", "m", {"top1": value + seed}, bits=bits, seed=seed, log=LOG) for seed in (0, 1)]
        made += [record("repqvit", "m", {"top1": value - 20}, bits=bits, minutes=0.1)]
    made += [record("aiqvit", "n", {"top1": 60.0 + i}, calibration=32 * 2**i, variant=f"images={32 * 2**i}", code="x")
             for i in range(3)]
    made += [record("mine", "m", {}, bits="3/3", status="failed")]
    return records.parts(records.load([write(tmp_path / "r", *made)], Registered()))[0]


def lines(ax):
    return {line.get_label(): list(line.get_ydata()) for line in ax.lines}


def test_metric_against_bits(part):
    figure = plots.by_bits(part)
    [first] = figure.axes
    bars = {bar.get_label(): bar for bar in first.containers}
    assert list(bars["AIQViT"].lines[0].get_ydata()) == [50.5, 70.5] and "mine" not in bars
    assert bars["AIQViT"].lines[0].get_color() == style.colour("aiqvit")
    assert lines(first)["Full precision"] == [80.0, 80.0]
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["3/3", "4/4"]
    assert first.get_ylabel() == "top-1 accuracy (%)" and first.get_xlabel() == "bits (weights/activations)"
    assert "preset paper" in figure.get_suptitle()


def test_metric_against_minutes(part):
    axes = {ax.get_title(): ax for ax in plots.by_minutes(part).axes}
    shown = {line.get_label(): line.get_xydata().tolist() for line in axes["m 3/3"].lines}
    assert shown["RepQ-ViT"] == [[pytest.approx(0.1), 30.0]] and shown["AIQViT"] == [[pytest.approx(2.0), 50.5]]
    assert "minutes" in axes["m 3/3"].get_xlabel()


def test_intervals_by_layer(part):
    axes = {ax.get_title(): ax for ax in plots.intervals(part).axes}
    bars = axes["m 4/4"].patches
    assert [bar.get_y() for bar in bars] == [0.01] * 3
    assert [bar.get_y() + bar.get_height() for bar in bars] == pytest.approx([0.5, 0.4, 0.3])


def test_metric_against_calibration(part):
    [ax] = plots.by_calibration(part).axes
    assert ax.lines[0].get_xydata().tolist() == [[32, 60], [64, 61], [128, 62]] and "samples" in ax.get_xlabel()


def test_error_by_block_shows_what_was_kept(part):
    axes = {ax.get_title(): ax for ax in plots.by_block(part).axes}
    after, before = axes["m 3/3"].lines
    assert list(after.get_ydata()) == [0.5, 1.5, 1.0] and list(before.get_ydata()) == [1.0] * 3


def test_no_two_methods_look_alike():
    looks = {(style.colour(m), style.marker(m)) for m in style.COLOURS}
    assert len(looks) == len(style.COLOURS) == len(set(style.COLOURS.values()))
    assert style.colour("mine") == style.colour("mine") not in style.COLOURS.values()


def test_legends_stay_inside(part):
    for _, figure in plots.drawn(part, list(plots.FIGURES)):
        figure.canvas.draw()
        box = figure.legends[0].get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0


def test_command_writes_every_figure_and_the_softmax_of_a_model(part, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([str(tmp_path / "r"), "--out", str(out)]) == 0
    names = {f"{name}-imagenet-paper" for name in plots.FIGURES} | {"softmax-mini_vit-3bit"}
    assert {path.name for path in out.iterdir()} == {f"{name}.{kind}" for name in names for kind in ("pdf", "png")}
    first = (out / "bits-imagenet-paper.pdf").read_bytes()
    assert main([str(tmp_path / "r"), "--out", str(out), "--figure", "bits", "--format", "pdf"]) == 0
    assert (out / "bits-imagenet-paper.pdf").read_bytes() == first


def test_softmax_levels_are_those_of_the_quantizers():
    from aiqvit import attention
    from aiqvit.registry import TASKS

    task = TASKS.get("imagenet")("mini")
    taps = attention.post_softmax(task, task.load("mini_vit"), images=2)
    assert len(taps) == 6 and taps[0].seen.sum(-1).allclose(taps[0].seen.new_ones(()))
    rows = {row.method: row for row in attention.levels(taps[0], 3)}
    assert all(len(row.values) <= 8 for row in rows.values())
    assert rows["aiqvit"].error < rows["minmax"].error  # its interval was searched for this product


@pytest.mark.parametrize("arguments, message", [
    (["--figure", "pie"], "--figure pie"), (["--format", "bmp"], "--format bmp"), (["nowhere"], "does not exist"),
    (["--figure", "softmax", "--bits", "9"], "--bits 9"), (["--figure", "softmax", "--layer", "6"], "layers 0 to 5"),
    (["--figure", "softmax", "--model", "none"], "unknown model")])
def test_wrong_input_is_one_sentence(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert message in errors and len(errors.splitlines()) == 1


def test_nothing_to_draw(tmp_path, capsys):
    folder = write(tmp_path / "r", record("minmax", "m", {"top1": 1.0}))
    assert main([str(folder), "--figure", "intervals,blocks", "--out", str(tmp_path / "o")]) == 2
    assert "nothing to draw" in capsys.readouterr().err
