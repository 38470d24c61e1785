"""Makes the operators known to parts of torch that C++ has no say in: ``vmap``, the flop counter, DTensor."""

from convmin import _batching, _flops, _sharding
from convmin._when_imported import when_imported

_batching.register()
when_imported("torch.utils.flop_counter", _flops.register)
when_imported("torch.distributed.tensor", _sharding.register)
