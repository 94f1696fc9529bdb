"""Train the mini detectors: ``python -m aiqvit.tasks.mini.train_coco [--model NAME ...] [--steps N]``.

Both start from the backbone of the mini Swin classifier, which has seen the same shapes one at a time; the rest starts
at random. Scenes are drawn from a random stream that ``prepare()`` does not use. Where ``--resume FOLDER`` is given,
the state is kept there every 50 steps, and the same command goes on from it.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
from aiqvit.tasks.detection.checkpoints import convert_backbone
from aiqvit.tasks.mini import coco, imagenet
from aiqvit.tasks.mini.scenes import Scene, boxes, scene
from aiqvit.tasks.mini.train_imagenet import rate, save
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm

BATCH = 4
RATE = 1.2e-3  # peak learning rate of the heads; the backbone, trained before, learns at half of it
STEPS = {"mini_mask_rcnn_swin": 1400, "mini_cascade_mask_rcnn_swin": 1000}
SPREAD = 0.6  # standard deviation of the LayerNorms' log gains at the start
KEEP = 50  # steps between two saved states


def pool(size: int) -> list[Scene]:
    """Training scenes."""
    rng = coco.generator("training pool")
    return [scene(rng) for _ in tqdm(range(size), desc="drawing", unit="img")]


def augment(drawn: Scene, rng: np.random.Generator) -> Scene:
    """A scene mirrored at random: all classes look alike in a mirror."""
    image, masks = drawn.image, drawn.masks
    if rng.random() < 0.5:
        image, masks = image[:, ::-1], masks[:, :, ::-1]
    return Scene(np.ascontiguousarray(image), drawn.labels, np.ascontiguousarray(masks))


def sample_of(drawn: Scene) -> dict:
    """A scene as MMDetection's training pipeline packs it: BGR pixels (3, H, W) and the ground truth."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    height, width = drawn.image.shape[:2]
    truth = InstanceData(bboxes=torch.from_numpy(boxes(drawn.masks)), labels=torch.from_numpy(drawn.labels),
                         masks=BitmapMasks(drawn.masks.astype(np.uint8), height, width))
    sample = DetDataSample(metainfo={"img_shape": (height, width), "ori_shape": (height, width),
                                     "scale_factor": (1.0, 1.0)})
    sample.gt_instances = truth
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    return {"inputs": torch.from_numpy(drawn.image[..., ::-1].copy()).permute(2, 0, 1), "data_samples": sample}


def loss_of(model: nn.Module, scenes: list[Scene]) -> Tensor:
    """The detector's whole training loss on a batch of scenes."""
    samples = [sample_of(drawn) for drawn in scenes]
    batch = {"inputs": [s["inputs"] for s in samples], "data_samples": [s["data_samples"] for s in samples]}
    batch = model.data_preprocessor(batch, training=True)
    return model.parse_losses(model.loss(batch["inputs"], batch["data_samples"]))[0]


@torch.no_grad()
def spread_gains(backbone: nn.Module) -> None:
    """Make the gains of the LayerNorms more unequal without a change of the outputs, as in `train_imagenet`."""
    pairs = {"norm1": "attn.w_msa.qkv", "norm2": "ffn.layers.0.0", "downsample.norm": "downsample.reduction"}
    for name, norm in backbone.named_modules():
        for end, reader in pairs.items():
            if name.endswith(f".{end}") and isinstance(norm, nn.LayerNorm):
                gain = torch.exp(SPREAD * torch.randn_like(norm.weight))  # (C,)
                norm.weight.mul_(gain)
                norm.bias.mul_(gain)
                backbone.get_submodule(name.removesuffix(end) + reader).weight.div_(gain)


def start(name: str) -> nn.Module:
    """A detector whose backbone is that of the trained mini Swin classifier."""
    model = coco.detector(name)
    trained = load_file(imagenet.weights("mini_swin"))
    state = convert_backbone(timm_to_original(trained))
    missing, unexpected = model.backbone.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    if unexpected or not all(k.startswith("norm") or k.endswith("position_index") for k in missing):
        raise ValueError(f"the backbone does not fit: missing {missing}, unexpected {unexpected}")
    spread_gains(model.backbone)
    return model.train()


def timm_to_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A timm Swin classifier's state in the layout of its authors: patch merging ends a stage there."""
    found = {}
    for key, value in state.items():
        if key.startswith(("head", "norm.")):
            continue
        parts = key.split(".")
        if parts[0] == "layers" and parts[2] == "downsample":
            parts[1] = str(int(parts[1]) - 1)
        found[".".join(parts)] = value
    return found


def train(name: str, scenes: list[Scene], length: int, keep: Path | None, seed: int = 0) -> nn.Module:
    """A detector after ``length`` steps of AdamW; goes on from the state in ``keep`` if there is one."""
    torch.manual_seed(seed)
    model, rng = start(name), np.random.default_rng(seed)
    named = list(model.named_parameters())
    groups = [{"params": [p for n, p in named if n.startswith("backbone") == old and (p.ndim > 1) == wide],
               "weight_decay": 0.05 if wide else 0.0, "peak": RATE / 2 if old else RATE}
              for old in (True, False) for wide in (True, False)]
    optimizer, done, seconds = torch.optim.AdamW(groups, lr=RATE), 0, 0.0
    saved = keep / f"{name}.pt" if keep else None
    if saved and saved.is_file():
        state = torch.load(saved, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done, seconds = state["step"], state["seconds"]
    begun = time.thread_time()
    bar = tqdm(range(done, length), desc=name, unit="step", mininterval=10, initial=done, total=length)
    for step in bar:
        rng = np.random.default_rng([seed, step])
        torch.manual_seed(seed * length + step)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate(step / length)
        loss = loss_of(model, [augment(scenes[i], rng) for i in rng.integers(len(scenes), size=BATCH)])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        if saved and (step + 1) % KEEP == 0:
            keep.mkdir(parents=True, exist_ok=True)
            draft = saved.with_suffix(".tmp")
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1,
                        "seconds": seconds + time.thread_time() - begun}, draft)
            os.replace(draft, saved)
    seconds += time.thread_time() - begun
    print(f"{name}: {length} steps of {BATCH} scenes in {seconds / 60:.1f} CPU minutes of one thread", flush=True)
    return model.eval()


def main() -> None:
    """Train the chosen detectors one after the other on one pool of scenes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=coco.MODELS, default=coco.MODELS)
    parser.add_argument("--steps", type=int, help=f"training steps of each model (default: {STEPS})")
    parser.add_argument("--pool", type=int, default=2500, help="scenes to draw (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="where to keep the state of the training")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    scenes = pool(args.pool)
    for name in args.model:
        save(coco.weights(name), train(name, scenes, args.steps or STEPS[name], args.resume))


if __name__ == "__main__":
    main()
