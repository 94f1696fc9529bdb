"""Methods to compare, one file each, in display order: to add one, write its file and add its line here."""

METHODS: dict[str, str] = {
    "fp32": "baselines.fp32:FullPrecision",
    "minmax": "baselines.minmax:MinMax",
    "repqvit": "baselines.repqvit:RepQViT",
    "aiqvit": "aiqvit.method:AIQViT",
}
