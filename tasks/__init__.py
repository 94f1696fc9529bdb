"""Tasks to measure on, one file each: to add one, write its file and add its line here."""

TASKS: dict[str, str] = {
    "imagenet": "aiqvit.tasks.imagenet:ImageNet",
    "coco": "aiqvit.tasks.coco:Coco",
    "modelnet40": "aiqvit.tasks.modelnet40:ModelNet40",
    "shapenetpart": "aiqvit.tasks.shapenetpart:ShapeNetPart",
}
