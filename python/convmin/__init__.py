"""convmin: ``min over channels of (conv2d(x, w, b) * scale)`` as one fused PyTorch operator.

>>> import torch, convmin
>>> layer = convmin.ConvScaleMin2d(8, 16, kernel_size=3, scale_factor=2.0)
>>> layer(torch.rand(1, 8, 32, 32)).shape
torch.Size([1, 1, 30, 30])

.. include:: ../../docs/semantics.md
.. include:: ../../docs/compatibility.md
"""

from convmin import _library as _library  # first: registers the operators
from convmin import _registrations as _registrations
from convmin import reference
from convmin._decompositions import decompositions
from convmin._library import __version__, include_dir, library_dir
from convmin.functional import conv2d_scale_min, conv2d_scale_min_with_indices
from convmin.fusion import FusionReport, FusionSite, fuse
from convmin.inductor import disable_inductor_fusion, enable_inductor_fusion
from convmin.introspection import DeviceProperties, Explanation, build_info, explain, force_kernel
from convmin.modules import ConvScaleMin2d

__all__ = [
    "ConvScaleMin2d",
    "DeviceProperties",
    "Explanation",
    "FusionReport",
    "FusionSite",
    "__version__",
    "build_info",
    "conv2d_scale_min",
    "conv2d_scale_min_with_indices",
    "decompositions",
    "disable_inductor_fusion",
    "enable_inductor_fusion",
    "explain",
    "force_kernel",
    "fuse",
    "include_dir",
    "library_dir",
    "reference",
]
