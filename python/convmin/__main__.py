"""The command line: ``python -m convmin info``, ``bench``, ``cmake``."""

import argparse
import sys
from pathlib import Path

import torch

import convmin


def info() -> None:
    """Prints the build, the devices and the plan for the headline workload on each."""
    build = convmin.build_info()
    print(f"convmin    {build['version']} for torch {build['torch_version']}, running on torch {torch.__version__}")
    print(f"CUDA       {build['cuda_version'] or 'not built in'}")
    print(f"archs      {' '.join(build['cuda_archs']) or 'none'}")
    print(f"kernels    {' '.join(build['kernels']) or 'cpu only'}")
    devices = [torch.device("cpu")]
    if build["cuda_version"] and torch.cuda.is_available():
        devices += [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    for device in devices:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
        print(f"\n{device} ({name}), float32 [64, 64, 256, 256] * [128, 64, 3, 3]:")
        properties = convmin.DeviceProperties.of(device) if device.type == "cuda" else None
        x, weight = (torch.empty(shape, device="meta") for shape in ((64, 64, 256, 256), (128, 64, 3, 3)))
        print(convmin.explain(x, weight, device=properties))


def cmake() -> None:
    """Prints what CMAKE_PREFIX_PATH needs for ``find_package(convmin)`` and ``find_package(Torch)``."""
    print(convmin.library_dir(), Path(torch.__file__).parent, sep=";")


def main(argv: list[str] | None = None) -> int:
    """Parses the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m convmin", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="what was built, what is there, and what would run")
    commands.add_parser("bench", help="times and memory beside eager PyTorch, torch.compile and cuDNN", add_help=False)
    commands.add_parser("cmake", help="what CMAKE_PREFIX_PATH needs for find_package(convmin)")
    chosen, rest = parser.parse_known_args(argv)
    if chosen.command == "bench":
        from convmin.bench import cli

        return cli.main(rest)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    {"info": info, "cmake": cmake}[chosen.command]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
