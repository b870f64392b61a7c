"""Families of torchvision's classifiers: networks whose stages and layer roles match up to how often blocks are repeated.

FAMILIES lists the members of each by name, MEMBERS has the builder and its keywords for each name. For export_models.py, which
writes them as NAME.onnx and with their norms as NAME.unfolded.onnx, and transfer_pairs.py, which carries weights between them.
"""

WIDTHS = {"mobilenet_v2": (0.35, 0.5, 1.4), "mobilenet_v3_small": (0.5, 0.75, 1.5), "mobilenet_v3_large": (0.5, 0.75)}

GROUPS = [
    ("resnet18", "resnet34"),
    ("resnet50", "resnet101", "resnet152"),
    ("regnet_x_400mf", "regnet_x_800mf", "regnet_x_1_6gf", "regnet_x_3_2gf", "regnet_x_8gf", "regnet_x_16gf"),
    ("regnet_y_400mf", "regnet_y_800mf", "regnet_y_1_6gf", "regnet_y_3_2gf", "regnet_y_8gf", "regnet_y_16gf"),
    ("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4"),
    ("mobilenet_v2",), ("mobilenet_v3_small",), ("mobilenet_v3_large",),
    ("densenet121", "densenet161", "densenet169", "densenet201"),
    ("mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"),
    ("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"),
    ("convnext_tiny", "convnext_small", "convnext_base"),
    ("vit_b_16", "vit_b_32"),
    ("swin_t", "swin_s", "swin_b"),
    ("swin_v2_t", "swin_v2_s", "swin_v2_b"),
    ("vgg11", "vgg13", "vgg16", "vgg19"),
    ("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
]


def narrowed(builder, width):
    """What a network of another width multiplier is called."""
    return f"{builder}_x{width}".replace(".", "_")


MEMBERS = {name: (name, {}) for group in GROUPS for name in group}
MEMBERS.update({narrowed(builder, width): (builder, {"width_mult": width}) for builder, widths in WIDTHS.items() for width in widths})
FAMILIES = {group[0]: [*group, *(narrowed(group[0], width) for width in WIDTHS.get(group[0], ()))] for group in GROUPS}
