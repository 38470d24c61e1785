"""torch.func: vmap, grad, vjp, jvp, Jacobians and functional_call, against those of PyTorch's operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import convmin
import pytest
import torch
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, stack_module_state, vjp, vmap

Operator = Callable[..., torch.Tensor]


def numbers(*shape: int) -> torch.Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))) - 0.5


X, W, B = numbers(4, 2, 3, 8, 8), numbers(5, 3, 3, 3), numbers(5)
WS, BS = numbers(4, 5, 3, 3, 3), numbers(4, 5)
SMALL = numbers(1, 3, 5, 5)


def loss(f: Operator) -> Callable[..., torch.Tensor]:
    return lambda x, w, b: f(x, w, b, 1.5, padding=1).square().sum()


TRANSFORMS: dict[str, Callable[[Operator], Any]] = {
    "vmap of batches": lambda f: vmap(lambda x: f(x, W, B, -2.0))(X),
    "vmap of images": lambda f: vmap(lambda x: f(x, W, B, -2.0))(X[:, 0]),
    "vmap of another dimension": lambda f: vmap(lambda x: f(x, W), 2, 1)(X.movedim(0, 2)),
    "vmap of weights": lambda f: vmap(lambda w: f(X[0], w, B, 2.0))(WS),
    "vmap of biases": lambda f: vmap(lambda b: f(X[0], W, b, 2.0))(BS),
    "vmap of all": lambda f: vmap(lambda x, w, b: f(x, w, b, 2.0, stride=2))(X, WS, BS),
    "vmap of vmap": lambda f: vmap(vmap(lambda x: f(x, W)))(X),
    "grad": lambda f: grad(loss(f), (0, 1, 2))(X[0], W, B),
    "gradient per sample": lambda f: vmap(grad(loss(f), (0, 1, 2)), (0, None, None))(X, W, B),
    "gradient per model": lambda f: vmap(grad(loss(f), (0, 1, 2)))(X[:, 0], WS, BS),
    "gradient of an input per sample": lambda f: vmap(grad(loss(f)), (0, None, None))(X, W, B),
    "grad of vmap": lambda f: grad(lambda w: vmap(lambda x: f(x, w, B).square().sum())(X).sum())(W),
    "vjp": lambda f: vjp(lambda x, w: f(x, w, B), X[0], W)[1](numbers(2, 1, 6, 6)),
    "jvp": lambda f: jvp(lambda x, w, b: f(x, w, b, -3.0), (X[0], W, B), (X[1], WS[0], BS[0])),
    "jvp of a bias": lambda f: jvp(lambda b: f(X[0], W, b), (B,), (BS[0],)),
    "jvp of an image": lambda f: jvp(lambda x: f(x, W, None, 2.0), (X[0, 0],), (X[1, 0],)),
    "jacrev": lambda f: jacrev(lambda x, w, b: f(x, w, b), (0, 1, 2))(SMALL, W, B),
    "jacfwd": lambda f: jacfwd(lambda x, w, b: f(x, w, b), (0, 1, 2))(SMALL, W, B),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS.keys())
def test_transform(transform: Callable[[Operator], Any]) -> None:
    torch._C._functorch._set_vmap_fallback_enabled(False)  # an operator without a batching rule is an error
    try:
        mine = transform(convmin.conv2d_scale_min)
    finally:
        torch._C._functorch._set_vmap_fallback_enabled(True)
    torch.testing.assert_close(mine, transform(convmin.reference.conv2d_scale_min))


def test_vmap_gives_indices() -> None:
    values, indices = vmap(lambda x: convmin.conv2d_scale_min_with_indices(x, W, B))(X)
    expected = [convmin.conv2d_scale_min_with_indices(x, W, B) for x in X]
    torch.testing.assert_close(values, torch.stack([v for v, _ in expected]))
    assert torch.equal(indices, torch.stack([i for _, i in expected])) and indices.dtype == torch.uint8


def test_a_mapped_input_takes_one_call() -> None:
    """The map's elements are folded into the batch."""
    with torch.profiler.profile() as profile:
        vmap(lambda x: convmin.conv2d_scale_min(x, W, B))(X)
    (event,) = [event for event in profile.key_averages() if event.key == "convmin::conv2d_scale_min"]
    # Seen once by vmap and once below it.
    assert event.count <= 2


def test_gradients_through_vmap() -> None:
    """Ordinary autograd around a map."""
    results = []
    for f in (convmin.conv2d_scale_min, convmin.reference.conv2d_scale_min):
        x = X[0].clone().requires_grad_()
        results.append(torch.autograd.grad(vmap(lambda w: f(x, w, B))(WS).square().sum(), x))  # noqa: B023
    torch.testing.assert_close(*results)


def test_forward_mode_outside_torch_func() -> None:
    """A tangent is never dropped, with gradients wanted or not."""
    from torch.autograd import forward_ad

    expected = jvp(lambda x: convmin.reference.conv2d_scale_min(x, W, B), (X[0],), (X[1],))
    for wanted in (False, True):
        with forward_ad.dual_level():
            x = forward_ad.make_dual(X[0].clone().requires_grad_(wanted), X[1])
            values, tangent = forward_ad.unpack_dual(convmin.conv2d_scale_min(x, W, B))
        torch.testing.assert_close((values.detach(), tangent.detach()), expected)


def test_models_as_functions() -> None:
    """functional_call, and an ensemble by stack_module_state."""
    layers = [convmin.ConvScaleMin2d(3, 5, 3, 2.0).double() for _ in range(3)]
    parameters = dict(layers[0].named_parameters())
    torch.testing.assert_close(functional_call(layers[1], parameters, X[0]), layers[0](X[0]))
    stacked, buffers = stack_module_state(layers)  # type: ignore[arg-type]
    together = vmap(lambda p, b: functional_call(layers[0], (p, b), (X[0],)))(stacked, buffers)
    torch.testing.assert_close(together, torch.stack([layer(X[0]) for layer in layers]))


def test_transforms_compile() -> None:
    """Gradients per sample within torch.compile."""
    torch.compiler.reset()
    per_sample = vmap(grad(loss(convmin.conv2d_scale_min), 1), (0, None, None))
    compiled = torch.compile(lambda x: per_sample(x, W, B), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(X), per_sample(X, W, B))


def test_second_derivatives_are_a_clear_error() -> None:
    with pytest.raises(RuntimeError, match="conv2d_scale_min_backward"):
        grad(lambda x: grad(loss(convmin.conv2d_scale_min))(x, W, B).sum())(X[0])


def test_a_wrong_shape_is_named() -> None:
    """Under each transform, as without."""
    f = convmin.conv2d_scale_min
    for call in (
        lambda: vmap(lambda x: f(x, W[:, 1:], B))(X),
        lambda: vmap(lambda w: f(X[0], w[:, 1:], B))(WS),
        lambda: grad(lambda x: f(x, W[:, 1:], B).sum())(X[0]),
        lambda: jvp(lambda x: f(x, W[:, 1:], B), (X[0],), (X[1],)),
    ):
        with pytest.raises(RuntimeError, match=r"conv2d_scale_min: expected weight of shape \[K, 3/groups, R, S\]"):
            call()
    with pytest.raises(RuntimeError, match=r"expected bias of shape \[5\] for weight .*, got \[4\]"):
        vmap(lambda x: f(x, W, B[1:]))(X)
