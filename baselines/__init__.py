"""Methods to compare, one file each, in display order: to add one, write its file and add its line here."""

METHODS: dict[str, str] = {
    "fp32": "aiqvit.baselines.fp32:FullPrecision",
    "minmax": "aiqvit.baselines.minmax:MinMax",
    "brecq": "aiqvit.baselines.brecq:BRECQ",
    "qdrop": "aiqvit.baselines.qdrop:QDrop",
    "ptq4vit": "aiqvit.baselines.ptq4vit:PTQ4ViT",
    "apqvit": "aiqvit.baselines.apqvit:APQViT",
    "repqvit": "aiqvit.baselines.repqvit:RepQViT",
    "isvit": "aiqvit.baselines.isvit:ISViT",
    "erq": "aiqvit.baselines.erq:ERQ",
    "gptaq": "aiqvit.baselines.gptaq:GPTAQ",
    "adalog": "aiqvit.baselines.adalog:AdaLog",
    "aphqvit": "aiqvit.baselines.aphqvit:APHQViT",
    "fimaq": "aiqvit.baselines.fimaq:FIMAQ",
    "lsvit": "aiqvit.baselines.lsvit:LSViT",
    "glfq": "aiqvit.baselines.glfq:GLFQ",
    "blockwise": "aiqvit.baselines.blockwise:Blockwise",
    "aiqvit": "aiqvit.method:AIQViT",
}
