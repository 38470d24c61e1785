"""Bad input: an exception before any work, of the type that PyTorch raises for the same mistake, whose message names
the argument, what was expected and what came."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import convmin
import numpy
import pytest
import torch
import torch.nn.functional as F
from support import eager

OPERATORS = [convmin.conv2d_scale_min, convmin.conv2d_scale_min_with_indices]


def x(*shape: int, **kwargs: Any) -> torch.Tensor:
    return torch.rand(*(shape or (2, 4, 8, 8)), **kwargs)


def w(*shape: int, **kwargs: Any) -> torch.Tensor:
    return torch.rand(*(shape or (6, 4, 3, 3)), **kwargs)


def nested(*tensors: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that they are a prototype
        return torch.nested.nested_tensor(list(tensors))


# What is wrong: (input, weight, bias, keyword arguments, words that the message has to hold).
Case = tuple[Any, Any, Any, dict[str, Any], list[str]]
CASES: dict[str, Case] = {
    "weight dtype": (x(), w().double(), None, {}, ["weight", "Float", "Double"]),
    "bias dtype": (x(), w(), torch.rand(6).half(), {}, ["bias", "Float", "Half"]),
    "input dtype": (x().half(), w(), None, {}, ["weight", "Half", "Float"]),
    "boolean": (x() > 0, w() > 0, None, {}, ["input", "Bool"]),
    "float8": (x().to(torch.float8_e4m3fn), w().to(torch.float8_e4m3fn), None, {}, ["input", "Float8_e4m3fn"]),
    "input of two dimensions": (x(8, 8), w(), None, {}, ["input", "[8, 8]"]),
    "input of five dimensions": (x(1, 2, 4, 8, 8), w(), None, {}, ["input", "[1, 2, 4, 8, 8]"]),
    "weight of three dimensions": (x(), w(6, 3, 3), None, {}, ["weight", "[6, 3, 3]"]),
    "weight of five dimensions": (x(), w(6, 4, 3, 3, 3), None, {}, ["weight", "[6, 4, 3, 3, 3]"]),
    "channels": (x(), w(6, 5, 3, 3), None, {}, ["weight", "[2, 4, 8, 8]", "[6, 5, 3, 3]"]),
    "groups that do not divide the input": (x(), w(6, 1, 3, 3), None, {"groups": 3}, ["groups", "3", "[2, 4, 8, 8]"]),
    "groups that do not divide the output": (x(), w(5, 2, 3, 3), None, {"groups": 2}, ["groups", "2", "[5, 2, 3, 3]"]),
    "zero groups": (x(), w(), None, {"groups": 0}, ["groups", "0"]),
    "negative groups": (x(), w(), None, {"groups": -1}, ["groups", "-1"]),
    "kernel larger than the input": (x(), w(6, 4, 9, 3), None, {}, ["9", "8", "[6, 4, 9, 3]", "height"]),
    "kernel wider than the input": (x(2, 4, 8, 5), w(6, 4, 3, 7), None, {}, ["7", "5", "[2, 4, 8, 5]", "width"]),
    "kernel larger than the padded input": (x(2, 4, 2, 8), w(6, 4, 5, 3), None, {"padding": 1}, ["5", "4", "padding"]),
    "dilated kernel larger than the input": (x(), w(), None, {"dilation": 4}, ["9", "8", "dilation 4"]),
    "zero stride": (x(), w(), None, {"stride": 0}, ["stride", "0"]),
    "negative stride": (x(), w(), None, {"stride": (1, -2)}, ["stride", "-2"]),
    "three strides": (x(), w(), None, {"stride": (1, 1, 1)}, ["stride", "[1, 1, 1]"]),
    "negative padding": (x(), w(), None, {"padding": (0, -1)}, ["padding", "-1"]),
    "three paddings": (x(), w(), None, {"padding": (1, 1, 1)}, ["padding", "[1, 1, 1]"]),
    "zero dilation": (x(), w(), None, {"dilation": 0}, ["dilation", "0"]),
    "negative dilation": (x(), w(), None, {"dilation": -1}, ["dilation", "-1"]),
    "no output channels": (x(), w()[:0], None, {}, ["weight", "[0, 4, 3, 3]"]),
    "kernel of no rows": (x(), w()[:, :, :0], None, {}, ["weight", "[6, 4, 0, 3]"]),
    "no rows": (x()[:, :, :0], w(), None, {}, ["input", "[2, 4, 0, 8]"]),
    "no rows but padding": (x()[:, :, :0], w(), None, {"padding": 2}, ["input", "[2, 4, 0, 8]"]),
    "long bias": (x(), w(), torch.rand(7), {}, ["bias", "[6]", "[7]"]),
    "bias of two dimensions": (x(), w(), torch.rand(6, 1), {}, ["bias", "[6]", "[6, 1]"]),
    "bias of no dimension": (x(), w(), torch.rand(()), {}, ["bias", "[6]", "[]"]),
    "sparse input": (x().to_sparse(), w(), None, {}, ["input", "Sparse"]),
    "sparse weight": (x(), w().to_sparse(), None, {}, ["weight", "Sparse"]),
    "sparse bias": (x(), w(), torch.rand(6).to_sparse(), {}, ["bias", "Sparse"]),
    "nested input": (nested(x(), x(2, 4, 8, 9)), w(), None, {}, ["input", "nested"]),
    "nested weight": (x(), nested(w(2, 4, 3, 3), w(4, 4, 3, 3)), None, {}, ["weight", "nested"]),
    "nested bias": (x(), w(), nested(torch.rand(2), torch.rand(4)), {}, ["bias", "nested"]),
    "padding string": (x(), w(), None, {"padding": "full"}, ["padding", "full", "same", "valid"]),
    "same padding with a stride": (
        x(),
        w(),
        None,
        {"padding": "same", "stride": 2},
        ["padding", "same", "stride", "2"],
    ),
    "input is an array": (numpy.zeros((2, 4, 8, 8)), w(), None, {}, ["input", "ndarray"]),
    "input is None": (None, w(), None, {}, ["input", "None"]),
    "weight is an array": (x(), numpy.zeros((6, 4, 3, 3)), None, {}, ["weight", "ndarray"]),
    "bias is a list": (x(), w(), [0.0] * 6, {}, ["bias", "list"]),
    "stride is a fraction": (x(), w(), None, {"stride": 1.5}, ["stride", "1.5|float"]),
    "padding is a fraction": (x(), w(), None, {"padding": (0.5, 1)}, ["padding", "0.5|float"]),
    "groups is a fraction": (x(), w(), None, {"groups": 1.5}, ["groups", "1.5|float"]),
    "dilation is None": (x(), w(), None, {"dilation": None}, ["dilation", "None"]),
}


def raised_by(call: Callable[..., Any], *arguments: Any, **kwargs: Any) -> Exception:
    with pytest.raises(Exception) as info:
        call(*arguments, **kwargs)
    return info.value


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_rejected_like_conv2d_rejects_it(case: Case, operator: Callable[..., Any]) -> None:
    """The type of F.conv2d's exception (any RuntimeError for a RuntimeError), and words that help."""
    image, weight, bias, kwargs, words = case
    theirs = raised_by(F.conv2d, image, weight, bias, **kwargs)
    mine = raised_by(operator, image, weight, bias, **kwargs)
    expected = RuntimeError if isinstance(theirs, RuntimeError) else type(theirs)
    assert isinstance(mine, expected), f"{type(mine).__name__} in the place of {type(theirs).__name__}: {mine}"
    message = str(mine).split("Exception raised from")[0]
    for word in words:
        pattern = word if "|" in word else re.escape(word)
        assert re.search(pattern, message), f"{word!r} is missing in: {message}"
    if isinstance(mine, RuntimeError):
        assert re.match(r"conv2d_scale_min(_with_indices)?: expected ", message), message


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.int64, torch.complex64], ids=str)
def test_integers_and_complex_numbers(dtype: torch.dtype, operator: Callable[..., Any]) -> None:
    """PyTorch's CPU convolution takes integers; no minimum of a scaled one is what anybody wants of this operator."""
    error = raised_by(operator, x().to(dtype), w().to(dtype))
    assert isinstance(error, RuntimeError)
    assert "input" in str(error) and "BFloat16" in str(error)


@pytest.mark.parametrize("where", ["cpu", "meta"])
@pytest.mark.parametrize("value", [2**31, 2**62, 2**63 - 1])
@pytest.mark.parametrize("name", ["stride", "padding", "dilation", "groups"])
def test_integers_too_large_to_compute_with(name: str, value: int, where: str) -> None:
    """What sizes are computed from is bounded before anything is computed that could overflow."""
    image, weight = x(device=where), w(device=where)
    words = rf"{name} .*from [01] to 2147483647, got {re.escape(str([value, value])) if name != 'groups' else value}"
    for operator in OPERATORS:
        with pytest.raises(RuntimeError, match=f"^conv2d_scale_min: expected {words}"):
            operator(image, weight, **{name: value})
    arguments = {**backward_arguments(), name: value if name == "groups" else [value, value]}
    moved = {
        key: argument.to(where) if isinstance(argument, torch.Tensor) else argument
        for key, argument in arguments.items()
    }
    with pytest.raises(RuntimeError, match=f"^conv2d_scale_min_backward: expected {words}"):
        run_backward(moved)


def test_a_kernel_too_large_to_compute_with() -> None:
    """A weight of stride 0 may have any extent without the memory for it; dilated, its window would overflow."""
    weight = w(1, 4, 1, 1).expand(1, 4, 2**33, 1)
    with pytest.raises(RuntimeError, match=r"^conv2d_scale_min: expected weight .*2147483647 rows.*8589934592"):
        convmin.conv2d_scale_min(x(), weight, dilation=2**31 - 1)


@pytest.mark.parametrize("where", ["cpu", "meta"])
def test_the_largest_integers(where: str) -> None:
    """In bounds: no overflow, and what F.conv2d answers."""
    image, weight, limit = x(device=where), w(device=where), 2**31 - 1
    values = convmin.conv2d_scale_min(image, weight, stride=limit)
    assert values.shape == (2, 1, 1, 1)
    assert where == "meta" or torch.equal(values, convmin.conv2d_scale_min(image, weight)[:, :, :1, :1])
    assert convmin.conv2d_scale_min(image, weight[..., :1, :1], dilation=limit).shape == (2, 1, 8, 8)
    with pytest.raises(RuntimeError, match="height 4294967295 "):
        convmin.conv2d_scale_min(image, weight, dilation=limit)
    with pytest.raises(RuntimeError, match=r"expected weight.*groups=2147483647"):
        convmin.conv2d_scale_min(image, weight, groups=limit)


def test_no_input_channels() -> None:
    """F.conv2d answers with no output channels at all, whose minimum does not exist."""
    with pytest.raises(IndexError):
        eager(x(2, 0, 8, 8), w(6, 0, 3, 3))
    with pytest.raises(RuntimeError, match="input"):
        convmin.conv2d_scale_min(x(2, 0, 8, 8), w(6, 0, 3, 3))


def test_scale_is_a_number() -> None:
    """Any float is legal, NaN too; a string or a tensor is not: a tensor may want a gradient, which a number has not,
    and making a number of it would wait for the GPU."""
    assert convmin.conv2d_scale_min(x(), w(), scale=float("nan")).isnan().all()
    for bad in ("2.0", None, torch.rand(2), torch.tensor(2.0), torch.tensor(2.0, requires_grad=True)):
        for operator in OPERATORS:
            error = raised_by(operator, x(), w(), None, bad)
            assert isinstance(error, TypeError), bad
            assert "expected scale to be a number" in str(error)
        with pytest.raises(TypeError, match="ConvScaleMin2d: expected scale_factor to be a number, got"):
            convmin.ConvScaleMin2d(4, 6, 3, bad)
        with pytest.raises(TypeError, match="expected scale_factor to be a number"):
            convmin.ConvScaleMin2d.from_conv(torch.nn.Conv2d(4, 6, 3), bad)


def test_numbers_may_be_numpys() -> None:
    """As conv2d takes them."""
    tensors = x(), w(), None
    one, two = numpy.int64(1), numpy.int32(2)
    expected = convmin.conv2d_scale_min(*tensors, 0.5, 2, 1, 1, 1)
    for stride, padding in ((two, one), ((two, 2), [one, one])):
        for operator in OPERATORS:
            values = operator(*tensors, numpy.float32(0.5), stride, padding, one, one)
            assert torch.equal(values[0] if isinstance(values, tuple) else values, expected)
    assert convmin.ConvScaleMin2d(4, 6, 3, numpy.float32(0.5)).scale_factor == 0.5


def test_a_lack_of_memory_is_not_tried_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fails(*_: Any) -> Any:
        calls.append(1)
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(convmin.functional, "_values", fails)
    with pytest.raises(torch.OutOfMemoryError):
        convmin.conv2d_scale_min(x(), w())
    assert len(calls) == 1


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
def test_errors_stay_errors_where_gradients_are_wanted(operator: Callable[..., Any]) -> None:
    """The autograd path has its own entry: the same messages come from it."""
    for image, weight, bias, kwargs, words in CASES.values():
        tensors = [
            t.detach().requires_grad_() if isinstance(t, torch.Tensor) and t.is_floating_point() else t
            for t in (image, weight, bias)
        ]
        error = raised_by(operator, *tensors, **kwargs)
        assert any(re.search(re.escape(word.split("|")[0]), str(error)) for word in words), error


def test_errors_on_meta_tensors() -> None:
    """Shapes are checked where there is no data: a bad model fails when it is traced, not when it runs."""
    for name, (image, weight, bias, kwargs, words) in CASES.items():
        if "is a" in name or "is None" in name or "sparse" in name or "nested" in name:
            continue
        meta = [None if t is None else t.to("meta") for t in (image, weight, bias)]
        for operator in OPERATORS:
            error = raised_by(operator, *meta, **kwargs)
            assert isinstance(error, RuntimeError), (name, error)
            assert re.search(re.escape(words[0]), str(error)), (name, error)


# The backward operator by itself, as a saved graph or a C++ program calls it: (what differs, words of the message).
BACKWARD_CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "gradient of another shape": ({"grad_output": x(1)}, ["grad_output", "[2, 1, 6, 6]", "[1]"]),
    "gradient dtype": ({"grad_output": x(2, 1, 6, 6).half()}, ["grad_output", "Float", "Half"]),
    "indices of another shape": ({"indices": torch.zeros(2, 6, 6).byte()}, ["indices", "[2, 1, 6, 6]", "[2, 6, 6]"]),
    "indices dtype": ({"indices": torch.zeros(2, 1, 6, 6).long()}, ["indices", "Byte, Short or Int", "Long"]),
    "channels": ({"weight": w(6, 5, 3, 3)}, ["weight", "[2, 4, 8, 8]", "[6, 5, 3, 3]"]),
    "weight dtype": ({"weight": w().double()}, ["weight", "Float", "Double"]),
    "input of two dimensions": ({"input": x(8, 8)}, ["input", "[8, 8]"]),
    "integers": ({"input": x().int(), "weight": w().int()}, ["input", "BFloat16", "Int"]),
    "zero groups": ({"groups": 0}, ["groups", "0"]),
    "zero stride": ({"stride": [0, 1]}, ["stride", "[0, 1]"]),
    "negative padding": ({"padding": [0, -1]}, ["padding", "[0, -1]"]),
    "kernel larger than the input": ({"dilation": [4, 1]}, ["9", "8", "dilation 4"]),
    "sparse gradient": ({"grad_output": x(2, 1, 6, 6).to_sparse()}, ["grad_output", "Sparse"]),
    "sparse indices": ({"indices": torch.zeros(2, 1, 6, 6).byte().to_sparse()}, ["indices", "Sparse"]),
    "sparse input": ({"input": x().to_sparse()}, ["input", "Sparse"]),
    "sparse weight": ({"weight": w().to_sparse()}, ["weight", "Sparse"]),
    "nested gradient": ({"grad_output": nested(x(1, 6, 6), x(1, 6, 5))}, ["grad_output", "nested"]),
    "nested input": ({"input": nested(x(4, 8, 8), x(4, 8, 7))}, ["input", "nested"]),
}


def backward_arguments() -> dict[str, Any]:
    return {
        "grad_output": x(2, 1, 6, 6),
        "input": x(),
        "weight": w(),
        "indices": torch.zeros(2, 1, 6, 6).byte(),
        "scale": 1.0,
        "stride": [1, 1],
        "padding": [0, 0],
        "dilation": [1, 1],
        "groups": 1,
        "output_mask": [True, True, True],
    }


def run_backward(arguments: dict[str, Any]) -> Any:
    return torch.ops.convmin.conv2d_scale_min_backward(**arguments)


@pytest.mark.parametrize("where", ["cpu", "meta", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("case", BACKWARD_CASES.values(), ids=BACKWARD_CASES.keys())
def test_the_backward_by_itself(case: tuple[dict[str, Any], list[str]], where: str) -> None:
    """Checked alike on every device and while tracing, and under its own name."""
    changes, words = case
    if where == "meta" and "nested" in words:
        pytest.skip("PyTorch has no nested tensors on meta")
    arguments = {**backward_arguments(), **changes}
    moved = {name: value.to(where) if isinstance(value, torch.Tensor) else value for name, value in arguments.items()}
    error = raised_by(run_backward, moved)
    message = str(error).split("Exception raised from")[0]
    assert isinstance(error, RuntimeError)
    assert message.startswith("conv2d_scale_min_backward: expected "), message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("name", ["grad_output", "input", "weight", "indices"])
def test_the_backward_on_two_devices(name: str) -> None:
    """One tensor on meta, which is where the dispatcher then goes."""
    arguments = backward_arguments()
    error = raised_by(run_backward, {**arguments, name: arguments[name].to("meta")})
    assert isinstance(error, RuntimeError)
    words = ["conv2d_scale_min_backward", "weight" if name == "input" else name, "meta", "cpu"]
    assert all(word in str(error) for word in words), error


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
def test_sparse_and_nested_tensors_in_inference(operator: Callable[..., Any]) -> None:
    """They then pass by the entry for gradients, and come to no back end that convmin has."""
    with torch.inference_mode():
        for tensors, name, got in (
            ((x().to_sparse(), w()), "input", "layout Sparse"),
            ((x(), w().to_sparse()), "weight", "layout Sparse"),
            ((nested(x(4, 8, 8)), w()), "input", "a nested one"),
        ):
            error = raised_by(operator, *tensors)
            assert f"conv2d_scale_min: expected {name} to be a dense (strided) tensor, got {got}" in str(error)


def test_other_memory_formats_are_an_error_or_right() -> None:
    """MKLDNN tensors hold their numbers elsewhere: reading them as plain memory would crash."""
    image, weight = x(), w()
    try:
        values = convmin.conv2d_scale_min(image.to_mkldnn(), weight)
    except RuntimeError:
        return
    torch.testing.assert_close(values, eager(image, weight)[0])


def test_conjugate_and_negative_views_are_resolved() -> None:
    """A lazily negated view has the numbers that it shows."""
    image, weight = x(), w()
    negated = torch._neg_view(image)
    assert negated.is_neg()
    torch.testing.assert_close(convmin.conv2d_scale_min(negated, weight), eager(-image, weight)[0])


@pytest.mark.cuda
@pytest.mark.parametrize("moved", ["input", "weight", "bias"])
def test_devices_that_differ(moved: str) -> None:
    """One tensor on the GPU and the others on the CPU, each in turn."""
    tensors = {"input": x(), "weight": w(), "bias": torch.rand(6)}
    tensors[moved] = tensors[moved].cuda()
    assert isinstance(raised_by(F.conv2d, *tensors.values()), RuntimeError)
    for operator in OPERATORS:
        error = raised_by(operator, *tensors.values())
        assert isinstance(error, RuntimeError)
        assert "cuda:0" in str(error) and "cpu" in str(error)
        assert ("weight" if moved == "input" else moved) in str(error)


@pytest.mark.cuda
def test_cases_on_the_gpu() -> None:
    """The same checks stand before a launch as before the CPU's work."""
    for name, (image, weight, bias, kwargs, words) in CASES.items():
        moved = [t.cuda() if isinstance(t, torch.Tensor) else t for t in (image, weight, bias)]
        for operator in OPERATORS:
            error = raised_by(operator, *moved, **kwargs)
            assert any(word.split("|")[0] in str(error) for word in words), (name, error)
    torch.cuda.synchronize()


def test_force_kernel_names_what_exists() -> None:
    """An unknown kernel is a ValueError that lists the known ones."""
    with pytest.raises(ValueError, match="simt"), convmin.force_kernel("sm20"):
        pass
