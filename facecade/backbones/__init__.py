"""Networks, and the weights that they start from.

Importing this registers with timm, by name, the face networks that it has not.
"""

from facecade.backbones import dlib_resnet, face_reid, faceres, inception_resnet, sface

__all__ = ["dlib_resnet", "face_reid", "faceres", "inception_resnet", "sface"]
