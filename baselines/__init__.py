"""Methods to compare, one file each, in display order: to add one, write its file and add its line here."""

METHODS: dict[str, str] = {
    "fp32": "baselines.fp32:FullPrecision",
    "minmax": "baselines.minmax:MinMax",
    "brecq": "baselines.brecq:BRECQ",
    "qdrop": "baselines.qdrop:QDrop",
    "ptq4vit": "baselines.ptq4vit:PTQ4ViT",
    "apqvit": "baselines.apqvit:APQViT",
    "repqvit": "baselines.repqvit:RepQViT",
    "isvit": "baselines.isvit:ISViT",
    "aiqvit": "aiqvit.method:AIQViT",
}
