"""Tasks to measure on, one file each: to add one, write its file and add its line here."""

TASKS: dict[str, str] = {
    "imagenet": "tasks.imagenet:ImageNet",
    "modelnet40": "tasks.modelnet40:ModelNet40",
    "shapenetpart": "tasks.shapenetpart:ShapeNetPart",
}
