"""``python -m convmin info``: what was built, what is there, and what would run."""

import argparse

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


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(prog="python -m convmin", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="what was built, what is there, and what would run")
    parser.parse_args()
    info()


if __name__ == "__main__":
    main()
