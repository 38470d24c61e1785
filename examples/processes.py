"""What the examples for several processes begin with."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import torch
import torch.distributed as dist


def join() -> torch.device:
    """Joins the processes that torchrun started; returns this one's device."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpus = torch.cuda.is_available() and torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    device = torch.device("cuda", local) if on_gpus else torch.device("cpu")
    if on_gpus:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpus else "gloo")
    return device


def leave() -> NoReturn:
    """Ends this process, once the others are as far: one that is gone takes its connections with it."""
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # threads of torch's that a mesh keeps alive may abort an interpreter that takes itself apart
