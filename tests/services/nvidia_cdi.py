"""
A machine with two GPUs as NVIDIA's container toolkit describes it, on one that has none.

The file is in the shape of `nvidia-ctk cdi generate` 1.17, written after its documentation and its own tests. What it
does not show: GPUs, their driver, and what later releases add.
"""

from pathlib import Path

DRIVER_FILES = {
    "/usr/bin/nvidia-smi": "a program",
    "/usr/bin/nvidia-debugdump": "another",
    "/lib/firmware/nvidia/550.54.15/gsp_tu10x.bin": "firmware",
    "/run/nvidia-persistenced/socket": "a socket",
    "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15": "the driver",
    "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.550.54.15": "what it measures",
}
DEVICES = ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
UUIDS = ("GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f", "GPU-8d042338-e67f-9c48-92b4-5b55c7e5133c")
# For a shell: a /dev of its own, as nothing is made in the machine's; $DEVICES: an empty folder; $GONE: not there.
STAND_INS = f"""
mount --rbind /dev "$DEVICES"
mount -t tmpfs none /dev
for name in null zero full random urandom {" ".join(DEVICES)}; do : > "/dev/$name"; done
for name in null zero full random urandom; do mount --bind "$DEVICES/$name" "/dev/$name"; done
for name in {" ".join(DEVICES)}; do mount --bind "$DEVICES/zero" "/dev/$name"; done
for name in $GONE; do umount "/dev/$name"; rm "/dev/$name"; done
"""
_HOOK = """{indent}- hookName: createContainer
{indent}  path: /usr/bin/nvidia-cdi-hook
{indent}  args:
{indent}    - nvidia-cdi-hook
{args}
{indent}  env:
{indent}    - NVIDIA_CTK_DEBUG=false
"""
_MOUNT = """        - hostPath: {root}{path}
          containerPath: {path}
          options:
            - ro
            - nosuid
            - nodev
"""


def cdi_file(root: Path) -> str:
    """
    The CDI file, in YAML as the toolkit writes it unless told otherwise.

    root: the folder that the driver's files are put below; as with `--driver-root`.
    """
    lines = ["---", "cdiVersion: 0.5.0", "kind: nvidia.com/gpu", "devices:"]
    devices = [("0", (0,)), ("1", (1,)), (UUIDS[0], (0,)), (UUIDS[1], (1,)), ("all", (0, 1))]
    text = "\n".join(lines) + "\n"
    for name, gpus in devices:
        text += f'    - name: "{name}"\n' if name.isdigit() else f"    - name: {name}\n"
        text += "      containerEdits:\n        deviceNodes:\n"
        text += "".join(f"            - path: /dev/nvidia{number}\n" for number in gpus)
        text += "        hooks:\n"
        for number in gpus:
            text += _hook(
                12, "create-symlinks", "--link", f"../card{number}::/dev/dri/by-path/pci-0000:0{number}:00.0"
            )
        text += _hook(12, "chmod", "--mode", '"755"', "--path", "/dev/dri")
    text += "containerEdits:\n    env:\n        - NVIDIA_VISIBLE_DEVICES=void\n    deviceNodes:\n"
    text += "".join(f"        - path: /dev/{name}\n" for name in DEVICES[2:])
    text += "    hooks:\n" + _hook(
        8, "create-symlinks", "--link", "libcuda.so.1::/usr/lib/x86_64-linux-gnu/libcuda.so"
    )
    text += _hook(8, "enable-cuda-compat", "--host-driver-version=550.54.15")
    text += _hook(8, "update-ldcache", "--folder", "/usr/lib/x86_64-linux-gnu") + "    mounts:\n"
    for path, content in DRIVER_FILES.items():
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (root / path[1:]).write_text(content)
        text += _MOUNT.format(root=root, path=path)
        text += "            - bind\n" + "            - noexec\n" * path.endswith("socket")
    return text


def ldconfig(root: Path) -> Path:
    """A program that says of that driver what `ldconfig -p` says of one that is installed."""
    lines = ["2 libs found in cache `/etc/ld.so.cache'"]
    for name in ("libnvidia-ml.so", "libcuda.so"):
        path = f"{root}/usr/lib/x86_64-linux-gnu/{name}.550.54.15"
        lines.append(f"\t{name}.1 (libc6,x86-64) => {path}")
    program = root / "ldconfig"
    program.write_text(f"#!/usr/bin/python3\nprint({chr(10).join(lines)!r})\n")
    program.chmod(0o755)
    return program


def _hook(indent: int, *args: str) -> str:
    said = "\n".join(f"{' ' * (indent + 4)}- {word}" for word in args)
    return _HOOK.format(indent=" " * indent, args=said)
