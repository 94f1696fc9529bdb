"""What runs of one process share: bounded, and only among runs that would compute the same."""

from dataclasses import replace

import torch

from aiqvit.cli.main import main
from aiqvit.harness.identity.spec import Run, RunSpec
from aiqvit.harness.launch.options import choose_methods
from aiqvit.harness.run.shared import Cache, OfRun
from aiqvit.harness.store.records import Store

SPEC = RunSpec("imagenet-mini", "mini_vit", "w", "d", "t", "c", "glfq", {}, "method 1", "smoke", "3/3", 0, None, "cpu",
               1)


def of(cache: Cache, spec: RunSpec = SPEC, method: str = "glfq") -> OfRun:
    return OfRun(cache, Run(spec, choose_methods(method)[0].build("smoke")))


def test_runs_that_differ_in_bits_or_method_share_and_others_do_not():
    cache = Cache()
    of(cache).put("key", 1)
    for same in ({"bits": "8/8"}, {"method": "blockwise"}, {"settings": {"steps": 3}}):
        assert of(cache, replace(SPEC, **same)).get("key") == 1
    for other in ({"weights": "v"}, {"calibration": "b"}, {"seed": 1}, {"threads": 2}, {"model": "mini_swin"}):
        assert of(cache, replace(SPEC, **other)).get("key") is None
    assert of(cache, method="glfq[rotate=off]").get("key") is None and of(cache).get("another key") is None


def test_what_was_not_asked_for_longest_leaves_first():
    cache = Cache(limit=1000)
    for key in "abc":
        cache.put(key, {"state": [torch.zeros(100)]})
        cache.get("a")
    assert [cache.get(key) is not None for key in "abc"] == [True, False, True]
    cache.put("large", torch.zeros(1000))
    assert cache.get("large") is None and cache.get("a") is None


def test_one_command_reconstructs_the_networks_of_a_model_once(tmp_path):
    def results(folder, method):
        assert main(["bench", "--data", "mini", "--model", "mini_vit", "--preset", "smoke", "--limit", "8", "--bits",
                     "3/3", "--threads", "1", "--method", method, "--out", str(folder)]) == 0
        found = Store(folder).records()
        return {r["spec"]["settings"].get("objective"): r for r in found if r["spec"]["method"] != "fp32"}

    both = results(tmp_path / "both", "blockwise[relu=on],blockwise[relu=on,objective=token]")
    alone = results(tmp_path / "alone", "blockwise[relu=on,objective=token]")
    assert both["token"]["metrics"] == alone["token"]["metrics"]

    def networks(record):
        return [entry for entry in record["log"] if entry["unit"].startswith("mlp:")]

    assert networks(both["mse"]) == networks(both["token"]) != []  # seconds too
    own = sum(entry["seconds"] for entry in both["token"]["log"] if "seconds" in entry)
    assert both["token"]["times"]["quantize"] > 0.9 * own
