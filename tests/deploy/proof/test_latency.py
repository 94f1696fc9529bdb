"""Times are taken in turn and compared within a round; what they were taken on is said."""

import pytest
import torch

from aiqvit.deploy.proof import engines, latency, machine
from aiqvit.deploy.proof.latency import measure
from aiqvit.interfaces import UserError


def test_ratios_are_to_the_first_file_within_each_round(monkeypatch):
    order: list[tuple[str, int, int]] = []

    def engine(path, threads):
        return lambda images: order.append((path, len(images), threads))

    def timed(work, data, times):
        work(data)  # the machine gets slower and slower: only ratios within a round mean something
        return {"slow": 2.0, "fast": 1.0}[order[-1][0]] * ((len(order) + 1) // 2)

    monkeypatch.setattr(latency, "ort", engine)
    monkeypatch.setattr(latency, "_seconds", timed)
    found = measure({"slow": "slow", "fast": "fast"}, torch.zeros(3, 2), batches=(1, 8), threads=(1, 2), rounds=3)
    assert len(found.timings) == 8 and found.ratio("slow", 8, 2) == 1 and found.ratio("fast", 1) == 2
    assert {(size, threads) for _, size, threads in order} == {(1, 1), (8, 1), (1, 2), (8, 2)}
    last = [path for path, *_ in order[-6:]]
    assert last == ["slow", "fast"] * 3


def test_real_files_are_timed(made):
    found = measure({"one": made.path, "same": made.path}, made.images, batches=(1, 20), rounds=3)
    assert 0.2 < found.ratio("same", 20) < 5 and all(timing.seconds > 0 for timing in found.timings)
    text = str(found)
    assert "batch 20, 1 thread: one " in text and "onnxruntime 1." in text and "do not spin" in text


def test_openvino_agrees_where_it_is_installed(made):
    if not engines.has_openvino():
        with pytest.raises(UserError, match="pip install openvino"):
            engines.openvino(made.path)
        return
    ours, theirs = (engine(made.path)(made.images.numpy()) for engine in (engines.ort, engines.openvino))
    assert abs(ours[0] - next(iter(theirs.values()))).max() < 0.05


def test_flags_of_the_processor(tmp_path):
    table = tmp_path / "cpuinfo"
    table.write_text("processor : 0\nflags : fpu avx2 avx512f avx512_vnni\nprocessor : 1\nflags : fpu\n")
    assert machine.cpu_flags(table) == ("avx2", "avx512f", "avx512_vnni")
    table.write_text("Features : fp asimd asimddp\n")
    assert machine.cpu_flags(table) == ("asimd", "asimddp")
    assert machine.cpu_flags(tmp_path / "absent") == ()
    assert "torch" in machine.describe()
