"""The fusion in graphs that ``torch.compile`` makes of models nobody edited."""

from __future__ import annotations

from types import TracebackType


class enable_inductor_fusion:
    """From now on Inductor fuses what :func:`convmin.fuse` would, in any model that it compiles.

    That is what ``torch.compile`` (its default backend) and ``torch._inductor.aoti_compile_and_package`` compile.

    It happens before gradients are derived, so in training too, and changes no module. What is compiled already stays
    as it is until ``torch.compiler.reset()``. The pass has a stable identity, so Inductor's caches work and tell graphs
    with and without it apart. A pass that was set before (``torch._inductor.config.pre_grad_custom_pass``) still runs.

    As a context manager it is in force for what is compiled, that is called for the first time, within the block.

    Example:
        >>> def model(x, weight):
        ...     return (torch.conv2d(x, weight) * 2.0).amin(1, keepdim=True)
        >>> with enable_inductor_fusion():
        ...     y = torch.compile(model)(torch.rand(1, 3, 8, 8), torch.rand(5, 3, 3, 3))
    """

    def __init__(self) -> None:
        from convmin import _inductor_pass  # a second or so of imports, for those who compile

        self._switched = _inductor_pass.enable()

    def __enter__(self) -> enable_inductor_fusion:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._switched:
            disable_inductor_fusion()


def disable_inductor_fusion() -> None:
    """Takes the pass out again, for what is compiled from now on; nothing happens where it is not in force."""
    from convmin import _inductor_pass

    _inductor_pass.disable()
