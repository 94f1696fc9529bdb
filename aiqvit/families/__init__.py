"""Families: what is known of the networks of one kind. To add one, write its file and add its line here.

A line names the Python module whose classes a family knows, and the family. A network that only a task has keeps its
family beside the task. Another package adds lines with an entry point of the group `aiqvit.families`.
"""

FAMILIES: dict[str, str] = {
    "timm.models.vision_transformer": "aiqvit.families.timm_vit:FAMILY",
    "timm.layers.attention": "aiqvit.families.timm_attention:FAMILY",
    "timm.layers.diff_attention": "aiqvit.families.timm_diff:FAMILY",
    "timm.layers.mlp": "aiqvit.families.timm_layers:FAMILY",
    "timm.layers.patch_embed": "aiqvit.families.timm_layers:FAMILY",
    "timm.layers.attention_pool": "aiqvit.families.timm_pool:FAMILY",
    "aiqvit.families.timm_pool": "aiqvit.families.timm_pool:FAMILY",
    "timm.models.eva": "aiqvit.families.timm_eva:FAMILY",
    "timm.models.beit": "aiqvit.families.timm_beit:FAMILY",
    "timm.models.cait": "aiqvit.families.timm_cait:FAMILY",
    "timm.models.swin_transformer": "aiqvit.families.timm_swin:FAMILY",
    "timm.models.swin_transformer_v2": "aiqvit.families.timm_swinv2:FAMILY",
    "torchvision.ops.misc": "aiqvit.families.torchvision_vit:FAMILY",
    "torchvision.models.vision_transformer": "aiqvit.families.torchvision_vit:FAMILY",
    "torchvision.models.swin_transformer": "aiqvit.families.torchvision_swin:FAMILY",
    "aiqvit.tasks.models.point_transformer": "aiqvit.tasks.models.point_family:FAMILY",
    "aiqvit.tasks.detection.swin": "aiqvit.tasks.detection.family:FAMILY",
    "mmdet.models.layers.transformer.utils": "aiqvit.tasks.detection.family:FAMILY",
    "mmdet.models.backbones.swin": "aiqvit.tasks.detection.family:FAMILY",
    "mmdet.models.detectors.two_stage": "aiqvit.tasks.detection.family:FAMILY",
}
