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
    "adalog": "aiqvit.baselines.adalog:AdaLog",
    "aiqvit": "aiqvit.method:AIQViT",
}
