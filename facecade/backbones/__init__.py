"""Networks and their pretrained weights.

Importing this package registers face networks with timm that timm does not have.
"""

from facecade.backbones import dlib_resnet, face_reid, faceres, inception_resnet, sface

__all__ = ["dlib_resnet", "face_reid", "faceres", "inception_resnet", "sface"]
