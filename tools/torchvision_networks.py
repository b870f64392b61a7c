"""torchvision's networks with seeded random weights, for export_models.py.

CLASSIFICATION, SEGMENTATION, DETECTION and VIDEO hold a function for each builder, which returns a `Traced`, FAMILIES further forms of
classifiers (network_families.py), and SMALL has functions of small networks of the same modules. Nothing is downloaded: norm statistics, scales and biases get values that matter instead (see modelkit.py).
"""

import functools
import inspect
import re

import torch
from torch import nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.efficientnet import FusedMBConv, MBConv
from torchvision.models.regnet import ResBottleneckBlock
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.swin_transformer import PatchMergingV2, ShiftedWindowAttentionV2, SwinTransformerBlockV2

import modelkit
import network_families
from modelkit import Traced

# A small image makes verification quick; at 64 pixels the last maps of most networks are 2x2, so that every tap of their
# kernels still counts. These need more: their pooled or windowed size is fixed by the architecture, or (AlexNet, VGG) ONNX
# has no adaptive pooling that is not an even division.
SIZE = 64
NEEDED_SIZES = {"alexnet": 224, "vgg": 224, "vit_h_14": 56, "swin_v2": 64, "swin": 112, "maxvit": 224, "inception_v3": 96}

# Batch statistics of deep networks need this many images: from 16 efficientnet_v2_s gets variances so small that it
# amplifies rounding errors to a third of its output.
CALIBRATION_BATCHES, CALIBRATION_BATCH = 4, 16

# What the norms that end a residual branch are scaled by.
BRANCH = 0.2

UNFOLDED = ".unfolded"


def random_images(count, *size):
    """Returns `count` noise images, each channel with an offset of its own: pooling averages plain noise away."""
    return torch.randn(count, 3, *(1 for _ in size)) + 0.7 * torch.randn(count, 3, *size)


def calibration(*size, batches=CALIBRATION_BATCHES, batch=CALIBRATION_BATCH):
    """Batches of images for the batch norms."""
    return [(random_images(batch, *size),) for _ in range(batches)]


@torch.no_grad()
def settle(network):
    """Makes drawn parameters such as trained networks have, where it matters.

    The branches of residual sums are made weak: a sum of a hundred random branches as strong as the stream amplifies
    rounding errors to the size of its output. The biases of Swin v2's keys are made zeros: every call zeroes them in place,
    which torch 1.13 cannot export, so that zeroing them may export as nothing.
    """
    for block in network.modules():
        if isinstance(block, (MBConv, FusedMBConv)) and block.use_res_connect:
            block.block[-1][1].weight.mul_(BRANCH)
        elif isinstance(block, ResBottleneckBlock):
            block.f.c[1].weight.mul_(BRANCH)
        elif isinstance(block, (BasicBlock, Bottleneck)):
            (block.bn2 if isinstance(block, BasicBlock) else block.bn3).weight.mul_(BRANCH)
        elif isinstance(block, ShiftedWindowAttentionV2):
            block.qkv.bias.chunk(3)[1].zero_()
            torch.onnx.register_custom_op_symbolic("aten::zero", lambda graph, value: value, 9)


def image_size(name):
    """The side in pixels of the square image that the classifier `name` is exported for."""
    return next((size for prefix, size in NEEDED_SIZES.items() if name.startswith(prefix)), SIZE)


def classifier(name, unfolded=False, **keywords):
    """The classifier `name`; `unfolded` keeps batch norms, layer norms and constants as torch has them."""
    size = image_size(name)
    if name.startswith("vit_"):
        keywords["image_size"] = size
    if name in ("googlenet", "inception_v3"):
        # The auxiliary heads have no part in inference, the pretrained weights want their inputs transformed, and the
        # builder's own truncated normals take minutes.
        keywords.update(aux_logits=False, transform_input=True, init_weights=False)
    network = models.get_model(name, weights=None, **keywords)
    return Traced(network, {"image": random_images(modelkit.SAMPLE_BATCH, size, size)}, keep_batch_norms=unfolded,
                  calibration=calibration(size, size), opset=17 if unfolded else modelkit.DEFAULT_OPSET, adjust=settle)


class Selected(nn.Module):
    """A network that answers with a dict, giving the values of some keys."""

    def __init__(self, network, keys):
        super().__init__()
        self.network, self.keys = network, keys

    def forward(self, image):
        result = self.network(image)
        return tuple(result[key] for key in self.keys)


def segmenter(name):
    """The segmentation network `name`, its auxiliary head left out as in inference.

    The pyramid of DeepLab has rates up to 36 on maps of an eighth of the image: a tall image lets some taps of each
    count and is quicker than a large one.
    """
    size = (304, 112) if name.startswith("deeplab") else (64, 64)
    network = models.get_model(name, weights=None, weights_backbone=None, aux_loss=False)
    return Traced(Selected(network, ("out",)), {"image": random_images(modelkit.SAMPLE_BATCH, *size)}, ("mask",),
                  keep_batch_norms=False, calibration=calibration(*size, batches=2, batch=4),
                  adjust=settle)


class Detector(nn.Module):
    """A detection network on one image, with its answer for that image as a tuple; or on a batch, to see them only."""

    def __init__(self, network, keys):
        super().__init__()
        self.network, self.keys = network, keys

    def forward(self, image):
        result = self.network(list(image) if image.dim() == 4 else [image])[0]
        return tuple(result[key] for key in self.keys)


def detector(name):
    """The detection network `name` with its own post-processing, on one image.

    No score is too low and few candidates are kept, so that random weights detect something.
    """
    size, keywords = 128, {"min_size": 128, "max_size": 128}
    outputs = ["boxes", "scores", "labels"]
    if "rcnn" in name:
        keywords.update(rpn_pre_nms_top_n_test=60, rpn_post_nms_top_n_test=20, box_score_thresh=0.0, box_detections_per_img=10)
        if name.startswith("maskrcnn"):
            outputs.append("masks")
        if name.startswith("keypointrcnn"):
            outputs += ["keypoints", "keypoints_scores"]
    else:
        keywords.update(score_thresh=0.0, topk_candidates=20, detections_per_img=10)
    if name.startswith("ssd"):
        size = 320 if name.startswith("ssdlite320") else 300
        del keywords["min_size"], keywords["max_size"]
        # By default ssd300 scales pixels to 255, as its Caffe weights want them; random weights would saturate every score.
        keywords.update(image_mean=[0.5] * 3, image_std=[0.5] * 3)
    network = models.get_model(name, weights=None, weights_backbone=None, **keywords)
    return Traced(Detector(network, outputs), {"image": random_images(1, size, size)[0]}, tuple(outputs), axes={},
                  output_axes={0: "detections"}, keep_batch_norms=False, adjust=settle,
                  calibration=calibration(size, size, batches=2, batch=4))


def video_network(name):
    """The video network `name`, on short clips where the architecture allows it."""
    size = {"s3d": (16, 224, 224), "mvit_v1_b": (16, 224, 224), "mvit_v2_s": (16, 224, 224)}.get(name, (8, 64, 64))
    network = models.get_model(name, weights=None)
    return Traced(network, {"clip": random_images(modelkit.SAMPLE_BATCH, *size)}, keep_batch_norms=False,
                  calibration=calibration(*size, batches=2, batch=2 if size[1] > 64 else 8), adjust=settle)


def small_vit():
    """torchvision's vision transformer, two blocks."""
    return small(models.VisionTransformer(image_size=16, patch_size=4, num_layers=2, num_heads=3, hidden_dim=24, mlp_dim=40,
                                          num_classes=10))


def small_swin():
    """torchvision's Swin transformer, two stages of two blocks, one of them shifted."""
    return small(models.SwinTransformer([2, 2], 12, [2, 2], [2, 4], [3, 3], num_classes=10))


def small_swin_v2():
    """torchvision's Swin transformer v2, of the same size."""
    return small(models.SwinTransformer([2, 2], 12, [2, 2], [2, 4], [4, 4], num_classes=10, block=SwinTransformerBlockV2,
                                        downsample_layer=PatchMergingV2))


def small_maxvit():
    """torchvision's MaxViT, two stages."""
    return small(models.MaxVit((32, 32), 12, 4, [16, 24], [1, 1], 8, 0.0, num_classes=10), 32)


def small_convnext():
    """torchvision's ConvNeXt, two stages."""
    return small(models.ConvNeXt([CNBlockConfig(12, 20, 1), CNBlockConfig(20, None, 1)], num_classes=10))


def small(network, size=16):
    """A classifier of small images."""
    return Traced(network, {"image": random_images(modelkit.SAMPLE_BATCH, size, size)}, keep_batch_norms=False,
                  calibration=calibration(size, size), adjust=settle)


def parameter_count(name):
    """The parameter count of a builder's network, from torchvision's metadata."""
    weights = inspect.signature(models.get_model_builder(name)).parameters["weights"].annotation
    return max(value.meta["num_params"] for value in weights.__args__[0])


def smallest_of_each_kind(names):
    """The builder with the fewest parameters of each kind: of the resnets resnet18."""
    smallest = {}
    for name in sorted(names, key=parameter_count):
        smallest.setdefault(re.match("[a-z]+(_v2)?", name)[0], name)
    return list(smallest.values())


def catalogue(module, make):
    """A function for each builder of a module of torchvision.models."""
    return {name: functools.partial(make, name) for name in models.list_models(module=module)}


CLASSIFICATION = catalogue(models, classifier)
CLASSIFICATION.update({name + UNFOLDED: functools.partial(classifier, name, unfolded=True)
                       for name in smallest_of_each_kind(CLASSIFICATION)})
FAMILIES = {name + form: functools.partial(classifier, builder, unfolded=bool(form), **keywords)
            for name, (builder, keywords) in network_families.MEMBERS.items() for form in ("", UNFOLDED)
            if name + form not in CLASSIFICATION}
SEGMENTATION = catalogue(models.segmentation, segmenter)
DETECTION = catalogue(models.detection, detector)
VIDEO = catalogue(models.video, video_network)
SMALL = (small_vit, small_swin, small_swin_v2, small_maxvit, small_convnext)
