#!/usr/bin/env python3
"""Compares models before and after a round trip with the onnx package, independently of OnnxMorph.

usage: roundtrip_check.py IN OUT

Every .onnx and .pb file under OUT is compared with its namesake under IN: the messages as python-onnx parses them, unknown
fields included, and every tensor as numpy_helper decodes it, external data included. Exits with 1 where any differs.
"""
import os
import sys

import numpy as np
import onnx
from onnx import numpy_helper


def tensors(message):
    """Every TensorProto inside a message."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for item in value if field.label == field.LABEL_REPEATED else [value]:
            yield from tensors(item)


def array(tensor, folder):
    """Bits of a tensor as numpy_helper decodes it, and whether it could; else what stands in the message."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        place = {entry.key: entry.value for entry in tensor.external_data}
        with open(os.path.join(folder, place["location"]), "rb") as file:
            file.seek(int(place.get("offset", 0)))
            raw = file.read(int(place["length"])) if "length" in place else file.read()
        inline = onnx.TensorProto()
        inline.CopyFrom(tensor)
        del inline.external_data[:]
        inline.ClearField("data_location")
        inline.raw_data = raw
        tensor = inline
    try:
        value = numpy_helper.to_array(tensor)
    except Exception:  # a type that this onnx cannot decode
        return False, tensor.SerializeToString(deterministic=True)
    if value.dtype == object:
        return True, value.shape, [bytes(item) if isinstance(item, bytes) else str(item) for item in value.ravel()]
    return True, value.shape, value.dtype.str, np.ascontiguousarray(value).tobytes()


def without_payload(model):
    """The model's bytes with every tensor's elements, and where they were, taken out."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in tensors(copy):
        for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "external_data", "data_location"):
            tensor.ClearField(field)
    return copy.SerializeToString(deterministic=True)


def main(before_root, after_root):
    compared = identical = tensor_count = undecoded = 0
    different = []
    for folder, _, names in sorted(os.walk(after_root)):
        for name in sorted(names):
            if not name.endswith((".onnx", ".pb")):
                continue
            after_path = os.path.join(folder, name)
            before_path = os.path.join(before_root, os.path.relpath(after_path, after_root))
            before, after = onnx.load(before_path, load_external_data=False), onnx.load(after_path, load_external_data=False)
            with open(before_path, "rb") as one, open(after_path, "rb") as two:
                identical += one.read() == two.read()
            compared += 1
            pairs = list(zip(tensors(before), tensors(after), strict=True))
            tensor_count += len(pairs)
            arrays = [(array(one, os.path.dirname(before_path)), array(two, folder)) for one, two in pairs]
            undecoded += sum(not one[0] for one, _ in arrays)
            same = without_payload(before) == without_payload(after) and all(one == two for one, two in arrays)
            if not same:
                different.append(after_path)
                print("different:", after_path)
    print(f"{compared} models compared, {identical} byte for byte the same, "
          f"{tensor_count} tensors ({undecoded} compared undecoded), {len(different)} models differ")
    return 1 if different or not compared else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2]))
