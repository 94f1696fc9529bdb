"""What aiqvit has to know of Point Transformers."""

from __future__ import annotations

from aiqvit.tasks.models.point_transformer import Block, PointTransformer

from aiqvit.families.family import Family
from aiqvit.quant.anatomy import Anatomy


def block(module: Block) -> Anatomy:
    """Relative coordinates enter the position codes; there are no LayerNorms and no GELUs."""
    return Anatomy(roles={"position.0": "coordinates"}, residual=("reduce",),
                   activations={"position.2": "relu", "gamma.2": "relu"})


def network(model: PointTransformer) -> Anatomy:
    """Embedding, blocks and transitions, classifier: the model itself knows their order."""
    last = f"classifier.{len(model.classifier) - 1}"
    return Anatomy(roles={"embed.0": "patch_embed", last: "head"}, units=tuple(model.units()))


FAMILY = Family(describes={Block: block}, networks={PointTransformer: network})
