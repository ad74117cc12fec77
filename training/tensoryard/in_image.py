"""
Goes into the image of a run and becomes the command that it was given; standard library only, Linux only.

    python in_image.py command...

The process, its parent and its signals stay what they are: only the files that it sees are others. They lie in a
mount namespace of this process, which ends with the last process in it: nothing is left mounted, whatever was killed.
Network, processes, /dev, /proc, /tmp and the run's folder are the machine's own. No security boundary.
Source: man 7 mount_namespaces, man 7 user_namespaces, https://docs.kernel.org/filesystems/overlayfs.html
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Files = Mapping[str, tuple[str, int]]

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
KEPT = 15  # read-only, no set-user-id programs, no devices, no programs
PR_SET_PDEATHSIG = 1
# What a process needs of its machine: devices, network names, users, and where MPI's ranks meet.
OF_THE_MACHINE = (
    "/dev",
    "/sys",
    "/tmp",  # noqa: S108
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/passwd",
    "/etc/group",
)
FOLDERS_NAMED = ("TMPDIR", "PMIX_SERVER_TMPDIR", "OMPI_MCA_orte_tmpdir_base")
# The image's own, where it says them: the machine's would name programs that are not in it.
OF_THE_IMAGE = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "SHELL")


class CannotEnterError(Exception):
    """Why the image cannot be run in, in words."""


def main(argv: list[str]) -> int:
    run_dir = os.environ["TYARD_RUN_DIR"]
    folder = os.path.realpath(os.path.join(run_dir, "environment"))
    where = os.getcwd()
    try:
        with open(os.path.join(folder, "image.json"), encoding="utf-8") as file:
            image = json.load(file)
        with open(os.path.join(run_dir, "launch", "layout.json"), encoding="utf-8") as file:
            layout = json.load(file)
            asked = layout["image"]
        if "on_node" in asked:  # pulled by this node into a folder of the same name
            folder = os.path.join(asked["on_node"], os.path.basename(folder))
        os.makedirs(os.path.join(run_dir, "home"), exist_ok=True)
        gpus = None
        if layout["use_gpu"]:
            sys.path.insert(0, os.path.join(run_dir, "launch"))
            import image_gpus  # type: ignore[import-not-found]

            gpus = image_gpus.of_the_machine(os.environ)
        named = [os.environ[name] for name in FOLDERS_NAMED if os.environ.get(name)]
        paths = outermost([*OF_THE_MACHINE, *named, *asked["mounts"], run_dir])
        files = {**gpus.libraries, **placeable(gpus.mounts, folder, paths), **gpus.devices} if gpus else {}
        enter(folder, paths, files)
        os.chdir(where)
        environment = environment_of(os.environ, image["environment"], set(asked["variables"]))
        if gpus:
            environment |= {name: text for name, text in gpus.variables.items() if name not in asked["variables"]}
            # Before the image's own: a driver fits the kernel module of its machine and no other.
            libraries = [image_gpus.DRIVER, environment.get("LD_LIBRARY_PATH")]
            environment["LD_LIBRARY_PATH"] = ":".join(filter(None, libraries))
        if "HOME" not in asked["variables"]:
            environment["HOME"] = os.path.join(run_dir, "home")
    except (OSError, CannotEnterError) as error:
        print(f"in_image.py: the image cannot be run in: {error}", file=sys.stderr)
        return 125
    return become(argv, environment)


def become(argv: list[str], environment: dict[str, str]) -> int:
    """Does not return where the command can be started; else the shell's exit code for that."""
    # Not os.execvpe: it imports, and Python's library is not to be seen from here.
    folders = [""] if "/" in argv[0] else [f"{folder}/" for folder in environment["PATH"].split(":")]
    problem = "is not in the image"
    for folder in folders:
        try:
            os.execve(folder + argv[0], argv, environment)
        except FileNotFoundError:
            continue
        except OSError as error:
            problem = f"cannot be started in the image: {error.strerror}"
    print(f"in_image.py: `{argv[0]}` {problem}", file=sys.stderr)
    return 127


def environment_of(own: Mapping[str, str], image: Mapping[str, str], asked: set[str]) -> dict[str, str]:
    """
    The variables of a process in an image: the image's, over them ours.

    asked: names of those that the job sets, which hold everywhere.
    """
    of_the_machine = {name for name in OF_THE_IMAGE if name not in asked}
    kept = {name: value for name, value in own.items() if name not in of_the_machine}
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **image, **kept}


def outermost(paths: Sequence[str]) -> list[str]:
    """The paths that exist and lie in none of the others."""
    found: list[str] = []
    for path in sorted({os.path.normpath(path) for path in paths}):
        if os.path.exists(path) and not any(path.startswith(f"{other}/") for other in found):
            found.append(path)
    return found


def placeable(files: Files, folder: str, paths: Sequence[str]) -> Files:
    """Those files of the machine that these paths do not bring, and to whose places no link of the image leads."""
    from_above = layers_of(folder)
    return {
        place: of_the_machine
        for place, of_the_machine in files.items()
        if link_above(from_above, place) is None and not any(f"{place}/".startswith(f"{path}/") for path in paths)
    }


def enter(folder: str, paths: Sequence[str], files: Files) -> None:
    """
    Give this process the files of an image, with these paths of the machine where they are.

    folder: of an unpacked image, which is not written to; files: of the machine with the flags that they are mounted
    with, by the places they get in the image.
    Raises OSError or CannotEnterError.
    """
    parent = os.getppid()
    apart()
    # Lost with the change of credentials.
    call("prctl", PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        raise CannotEnterError("its supervisor is gone")
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    from_above = layers_of(folder)
    places = {path: (path, 0) for path in paths} | dict(files)
    opened = [(os.open(source, os.O_PATH), place, flags) for place, (source, flags) in places.items()]
    work = os.path.join(folder, "work")
    # In memory: what a script writes outside of its run's folder is gone with it.
    mount("tmpfs", work, "tmpfs", 0, "mode=755")
    for name in ("upper", "scratch", "merged"):
        os.mkdir(os.path.join(work, name))
    # Beforehand: folders of the image may belong to somebody else.
    make_place(f"{work}/upper", "/proc", "/proc", from_above)
    for place, (source, _) in places.items():
        make_place(f"{work}/upper", place, source, from_above)
    # By short names: the kernel takes one page of options, and images have up to 127 layers.
    os.chdir(os.path.join(folder, "layers"))
    lower = ":".join(map(os.path.basename, from_above))
    overlay = f"lowerdir={lower},upperdir={work}/upper,workdir={work}/scratch"
    mount("overlay", f"{work}/merged", "overlay", 0, overlay)
    mount("/proc", f"{work}/merged/proc", None, MS_BIND | MS_REC)
    os.chroot(f"{work}/merged")
    os.chdir("/")
    # From within, so that links on the way to a path lead to where they lead in the image.
    for number, place, flags in opened:
        mount(f"/proc/self/fd/{number}", place, None, MS_BIND | MS_REC)
        os.close(number)
        if flags:
            # With those that it has already: in a user namespace none of them can be taken off.
            mount("none", place, None, MS_REMOUNT | MS_BIND | flags | os.statvfs(place).f_flag & KEPT)


def apart() -> None:
    """Mounts of our own: as root at once, as anybody else in a user namespace in which we are who we are."""
    user, group = os.getuid(), os.getgid()
    try:
        call("unshare", CLONE_NEWNS)
        return
    except PermissionError:
        pass
    try:
        call("unshare", CLONE_NEWNS | CLONE_NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    except OSError as error:
        raise CannotEnterError(
            f"this machine does not allow unprivileged user namespaces ({error.strerror}); its owner can allow it by "
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0, kernel.unprivileged_userns_clone=1 or "
            "user.max_user_namespaces=10000"
        ) from None


def make_place(layer: str, path: str, source: str, from_above: Sequence[str]) -> None:
    """
    Something to mount a source over, in the layer above an image that may have nothing there, or a link to nowhere.

    from_above: the layers of the image. Raises CannotEnterError where the way to the path is a link in the image.
    """
    if link := link_above(from_above, path):
        raise CannotEnterError(f"`{path}` is needed in it, and its `{link}` is a link to elsewhere")
    if os.path.isdir(source):
        os.makedirs(layer + path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(layer + path), exist_ok=True)
        os.close(os.open(layer + path, os.O_CREAT, 0o644))


def layers_of(folder: str) -> list[str]:
    """The layers of an unpacked image, the topmost first."""
    layers = os.path.join(folder, "layers")
    return [os.path.join(layers, str(number)) for number in sorted(map(int, os.listdir(layers)), reverse=True)]


def link_above(from_above: Sequence[str], path: str) -> str | None:
    """The folder on the way to a path that is a link in an image, or None."""
    above = os.path.dirname(path)
    while above != "/":
        if is_link(from_above, above):
            return above
        above = os.path.dirname(above)
    return None


def is_link(from_above: Sequence[str], path: str) -> bool:
    """Whether a path of an image is a link: in the topmost of its layers that has anything there."""
    for layer in from_above:
        here = layer
        for part in path.split("/")[1:]:
            here = f"{here}/{part}"
            try:
                mode = os.lstat(here).st_mode
            except FileNotFoundError:
                break
            if not stat.S_ISDIR(mode):  # a link, a file, or what hides the layers below
                return stat.S_ISLNK(mode) and here == layer + path
    return False


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    try:
        call("mount", *words, ctypes.c_ulong(flags), os.fsencode(data) if data else None)
    except OSError as error:
        raise CannotEnterError(f"{source} cannot be mounted at {target}: {error.strerror}") from None


def call(name: str, *arguments: object) -> None:
    """A function of the C library. Raises OSError when it answers -1."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
