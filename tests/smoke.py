"""What an installed convmin must do with neither compiler nor source tree at hand; run on its own, by any Python.

Prints where it was found, and one line of what it checked.
"""

from __future__ import annotations

import convmin
import torch


def main() -> None:
    devices = ["cpu"]
    if convmin.build_info()["cuda_version"] is not None and torch.cuda.is_available():
        devices.append("cuda")
    for device in devices:
        torch.manual_seed(0)
        layer = convmin.ConvScaleMin2d(8, 16, 3, scale_factor=-2.0, padding=1).to(device)
        x = torch.rand(2, 8, 20, 24, device=device, requires_grad=True)
        torch.backends.cudnn.allow_tf32 = False
        expected = convmin.reference.conv2d_scale_min(x, layer.weight, layer.bias, -2.0, padding=1)
        y = layer(x)
        torch.testing.assert_close(y, expected)
        y.sum().backward()
        assert x.grad is not None and bool(x.grad.isfinite().all())
        values, indices = convmin.conv2d_scale_min_with_indices(x.detach(), layer.weight.detach())
        assert values.shape == indices.shape == (2, 1, 18, 22)
        print(convmin.explain(x, layer.weight, layer.bias, padding=1))
    for folder, name in ((convmin.include_dir(), "convmin/ops.h"), (convmin.library_dir(), "libconvmin.so")):
        assert (folder / name).is_file(), folder / name
    print(f"convmin {convmin.__version__} in {convmin.library_dir()}: right on {', '.join(devices)}")


if __name__ == "__main__":
    main()
