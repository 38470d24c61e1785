from typing import TypedDict

class BuildInfo(TypedDict):
    version: str
    torch_version: str
    cuda_version: str | None
    cuda_archs: list[str]
    kernels: list[str]

class Problem(TypedDict):
    dtype: str
    precision: str
    has_bias: bool
    with_indices: bool
    input: tuple[int, int, int, int]
    weight: tuple[int, int, int, int]
    output: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    input_strides: tuple[int, int, int, int]
    weight_strides: tuple[int, int, int, int]
    input_alignment: int
    weight_alignment: int
    scale: float

class Device(TypedDict):
    major: int
    minor: int
    sm_count: int
    shared_memory_per_block: int
    shared_memory_per_sm: int
    registers_per_sm: int
    clusters: tuple[int, ...]

class Plan(TypedDict, total=False):
    # Always there.
    accepted: bool
    reason: str
    rejections: list[tuple[str, str]]
    # There where accepted.
    kernel: str
    precision: str
    gather: str
    tile: tuple[int, int, int]
    stages: int
    tile_rows: int
    tile_columns: int
    padded: bool
    prefetched: bool
    taps: int
    parts: int
    splits: int
    images: int
    blocks: int
    cluster: int
    grains: int
    threads: int
    shared_memory: int
    workspace_bytes: int

class BackwardPlan(TypedDict, total=False):
    # Always there.
    accepted: bool
    reason: str
    # There where accepted.
    grad_input: str
    lanes: int
    grad_weight: str
    ranges: int
    pairs: bool
    slices: int
    slice_pixels: int
    slice_images: int
    sort_passes: int
    vectors: bool
    team: int
    team_chunks: int
    segment_pixels: int
    workspace_bytes: int

def build_info() -> BuildInfo: ...
def query_device(ordinal: int) -> Device: ...
def plan(problem: Problem, device: Device, kernel: str = "") -> Plan: ...
def plan_backward(problem: Problem, device: Device, wanted: tuple[bool, bool, bool]) -> BackwardPlan: ...
def plan_slabs(n: int, k: int, oh: int, ow: int, element_size: int) -> tuple[int, int]: ...
