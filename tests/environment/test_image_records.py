"""What a workspace's machines share of images: pins of specs, images by digest, Horovod's wheels; a run's own pin."""

import json
import multiprocessing
import os
import threading
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from cli_runner import Tyard
from launching import StoreThat, Yard
from services.base_image import push_image
from services.images import SIX, variant
from tensoryard.cli.env import env
from tensoryard.environment import Environment, ImageSpec, build_turn, shared_wheels
from tensoryard.environment.horovod import Wheel, WheelInputs
from tensoryard.environment.image_builder import ImageBuilder
from tensoryard.environment.image_inputs import spec_key
from tensoryard.environment.image_records import Change, ImageRecords, Pin, changes
from tensoryard.environment.spec import Recipe
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import AlreadyExistsError
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import parse_place
from tensoryard.store import Store

pytestmark = pytest.mark.xdist_group("images")  # one worker makes what they share
BARE = Recipe(name="bare", python="3.11")


def machine(folder: Path, store: Store, registry: str = "") -> ImageBuilder:
    """A builder on a machine of its own that reaches the workspace's store."""
    return ImageBuilder(VenvBuilder(folder), registry, store)


def never(line: str) -> None:
    raise AssertionError(line)


def test_a_tag_means_the_same_image_on_every_machine_until_it_is_moved(
    store: Store, image_registry: str, tmp_path: Path
) -> None:
    name = f"{image_registry}/pins/theirs:1"
    first = push_image(name, variant([], b"first\n"))
    one, other = (machine(tmp_path / where, store) for where in ("one", "other"))
    wanted = ImageSpec(existing=name)
    made = one.ensure_recipe(SIX, wanted, print)
    second = push_image(name, variant([], b"second\n"))
    assert other.ensure_recipe(SIX, wanted, print).image == made.image == f"{image_registry}/pins/theirs@{first}"
    before, after = other.update(SIX, wanted, print)
    assert before is not None
    assert changes(before, after) == (Change("image", first, second),)
    assert other.update(SIX, wanted, print) == (after, after)
    assert one.find_recipe(SIX, wanted) is None
    assert one.ensure_recipe(SIX, wanted, print).image == f"{image_registry}/pins/theirs@{second}"


def test_of_two_machines_that_pin_at_once_both_have_what_the_first_put(
    store: Store, image_registry: str, tmp_path: Path
) -> None:
    name = f"{image_registry}/pins/moving:1"
    push_image(name, variant([], b"first\n"))
    other = machine(tmp_path / "other", store)

    def before(call: str, arguments: tuple[object, ...]) -> None:
        if call == "put" and not seen:
            seen.append(other.inputs(BARE, ImageSpec(base=name), print))
            push_image(name, variant([], b"second\n"))

    seen: list[object] = []
    push_image(name, variant([], b"second\n"))
    one = machine(tmp_path / "one", StoreThat(store, before))  # type: ignore[arg-type]
    assert one.inputs(BARE, ImageSpec(base=name), print) == seen[0] == other.inputs(BARE, ImageSpec(base=name), never)


def test_another_machine_neither_locks_nor_asks_for_the_base(
    store: Store, image_registry: str, tmp_path: Path
) -> None:
    name = f"{image_registry}/pins/once:1"
    push_image(name, variant([], b"base\n"))
    pinned = machine(tmp_path / "one", store).inputs(SIX, ImageSpec(base=name), print)
    assert "six==1.16.0" in pinned.requirements
    assert machine(tmp_path / "other", store).inputs(SIX, ImageSpec(base=name), never) == pinned
    assert list((tmp_path / "other").rglob("lock.json")) == []


def test_the_digest_in_the_store_wins_over_a_tag_that_somebody_moved(
    store: Store, image_registry: str, tmp_path: Path
) -> None:
    registry = f"{image_registry}/moved"
    ours = ImageSpec(base=f"{image_registry}/pins/base:1")
    push_image(ours.base, variant([], b"base\n"))
    one = machine(tmp_path / "one", store, registry)
    key = one.inputs(BARE, ours, print).key
    place = f"{registry}/tensoryard/environments:{key}"
    digest = push_image(place, variant([], b"ours\n"))
    assert one.ensure_recipe(BARE, ours, print).image == f"{registry}/tensoryard/environments@{digest}"
    push_image(place, variant([], b"theirs\n"))
    found = machine(tmp_path / "other", store, registry).ensure_recipe(BARE, ours, print)
    assert found.image == f"{registry}/tensoryard/environments@{digest}"
    assert found.base == one.inputs(BARE, ours, never).base


def test_of_two_that_built_at_once_the_first_to_say_so_is_right(store: Store) -> None:
    def built(digit: str) -> Environment:
        return Environment(
            hash="ab" * 8,
            name="built",
            python="python",
            python_version="3.11",
            tensorflow="",
            lock_sha256="",
            image=f"reg.io/e@sha256:{digit * 64}",
        )

    records = ImageRecords(store)
    assert records.image("ab" * 8, "reg.io/e") == (0, None)
    assert records.add_image(1, built("1")) == records.add_image(1, built("2")) == built("1")
    assert records.image("ab" * 8, "reg.io/e") == (1, built("1"))
    assert records.image("ab" * 8, "elsewhere.io/e") == (1, None)


def test_a_wheel_compiled_by_one_machine_is_taken_by_another(store: Store, tmp_path: Path) -> None:
    import hashlib

    made_from = WheelInputs(
        horovod="1", distribution="t", tensorflow="2", abi="a", platform="p", libc="l", mpi=None, flags=()
    )
    wheel = Wheel(inputs=made_from, file="horovod.whl", sha256=hashlib.sha256(b"compiled").hexdigest())
    folder = tmp_path / "one" / "wheels" / "horovod" / made_from.key
    folder.mkdir(parents=True)
    (folder / "horovod.whl").write_bytes(b"compiled")
    (folder / "wheel.json").write_bytes(msgspec.json.encode(wheel))
    assert not shared_wheels.bring(store, tmp_path / "other", made_from.key, print)
    shared_wheels.share(store, tmp_path / "one", made_from.key, print)
    shared_wheels.share(store, tmp_path / "one", made_from.key, never)
    assert shared_wheels.bring(store, tmp_path / "other", made_from.key, print)
    taken = tmp_path / "other" / "wheels" / "horovod" / made_from.key
    assert {path.name: path.read_bytes() for path in taken.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }


def test_a_run_is_pinned_to_its_image_and_a_rerun_has_the_same(
    yard: Yard, image_registry: str, tmp_path: Path
) -> None:
    """No Python in it, so that nothing starts: what is asked is which image it would start in."""
    name = f"{image_registry}/pins/run:1"
    digest = push_image(name, variant([], b"first\n"))
    first = yard.submit("", image=name)
    yard.controller(builder=machine(tmp_path / "one", yard.workspace.store)).serve()
    pin = first.image()
    assert pin is not None
    assert pin.image == f"{image_registry}/pins/run@{digest}"
    push_image(name, variant([], b"second\n"))
    from tensoryard.submit import submit

    again = submit(yard.workspace, first.job, print, taken=first.snapshot(), image=pin)
    yard.controller(builder=machine(tmp_path / "other", yard.workspace.store)).serve()
    assert again.image() == pin
    assert again.state().facts["environment"]["image"] == pin.image
    with pytest.raises(AlreadyExistsError):
        again.store.put(again.key("image.json"), b"")


def test_a_run_whose_image_is_gone_says_which_and_what_to_do(yard: Yard, image_registry: str, tmp_path: Path) -> None:
    name = f"{image_registry}/pins/gone:1"
    digest = push_image(name, variant([], b"to be removed\n"))
    first = yard.submit("", image=name)
    yard.controller(builder=machine(tmp_path / "one", yard.workspace.store)).serve()
    client = Client(parse_place(name, "1"))
    assert client.ask("DELETE", f"http://{image_registry}/v2/pins/gone/manifests/{digest}").status == 202
    from tensoryard.submit import submit

    again = submit(yard.workspace, first.job, print, taken=first.snapshot(), image=first.image())
    yard.controller(builder=machine(tmp_path / "other", yard.workspace.store)).serve()
    (end,) = [event for event in again.events()[0] if event.stage == "Failed"]
    assert end.reason == (
        f"`{name}`: the run is pinned to an image that is gone: registry `{image_registry}` has no image "
        f"`{image_registry}/pins/gone@{digest}`"
    )
    assert f"`tyard runs resubmit {again.id} --rebuild`" in end.data["hint"]
    # Where it is unpacked still, no registry is asked.
    here = submit(yard.workspace, first.job, print, taken=first.snapshot(), image=first.image())
    yard.controller(builder=machine(tmp_path / "one", yard.workspace.store)).serve()
    assert here.state().facts["environment"]["cached"]


def test_changes_name_packages_and_the_base(image_registry: str, tmp_path: Path, store: Store) -> None:
    key = spec_key(BARE, ImageSpec())
    name = f"{image_registry}/pins/changes:1"
    push_image(name, variant([], b"base\n"))
    inputs = machine(tmp_path, store).inputs(BARE, ImageSpec(base=name), print)
    one, two = "a==1 \\\n    --hash=sha256:01\nb==1\n", "a==2\nc==1\n"
    pins = [
        Pin(inputs=msgspec.structs.replace(inputs, requirements=lock), host="h", pinned_at=0.0) for lock in (one, two)
    ]
    assert changes(*pins) == (Change("a", "1", "2"), Change("b", "1", ""), Change("c", "", "1"))
    assert len(key) == 16
    assert json.loads(msgspec.json.encode(changes(*pins)))[0] == ["a", "1", "2"]


def test_the_command_moves_a_pin_and_prints_what_changed(
    image_registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TYARD_CACHE", "TYARD_WORKSPACE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    name = f"{image_registry}/pins/command:1"
    first = push_image(name, variant([], b"first\n"))
    (tmp_path / "train.py").write_text("")
    job = {"experiment": "e", "entry_script": "train.py", "image": name}
    (tmp_path / "job.yaml").write_bytes(msgspec.json.encode(job))

    def update(*options: str) -> str:
        arguments = ["update", str(tmp_path / "job.yaml"), *options]
        return CliRunner().invoke(env, arguments, catch_exceptions=False, standalone_mode=False).stdout

    assert update() == f"image: (not there) -> {first}\n"
    assert update() == ""
    second = push_image(name, variant([], b"second\n"))
    assert json.loads(update("--json")) == [{"what": "image", "before": first, "after": second}]


def test_of_two_machines_that_want_an_image_at_once_one_builds_it(
    store: Store, images: ImageBuilder, base_image: str, image_registry: str, tmp_path: Path
) -> None:
    wanted, base = Recipe(name="both", python="3.11"), ImageSpec(base=base_image, system_packages=("tyard-greeting",))
    registry = f"{image_registry}/{type(store).__name__.lower()}"
    one = ImageBuilder(images.venvs, registry, store)
    other = machine(tmp_path / "other", store, registry)
    said: list[str] = []
    waiting = threading.Event()

    def log(line: str) -> None:
        if line.startswith("STEP 2") and not waiting.is_set():
            thread.start()
            assert waiting.wait(300)

    def log_of_the_other(line: str) -> None:
        said.append(line)
        waiting.set()

    thread = threading.Thread(target=lambda: found.append(other.ensure_recipe(wanted, base, log_of_the_other)))
    found: list[Environment] = []
    made = one.ensure_recipe(wanted, base, log)
    thread.join()
    assert found[0].image == made.image
    assert said[0].startswith(f"waiting for the build of image {made.hash} by process {os.getpid()} on ")
    assert not any(line.startswith("building") for line in said)
    assert not (tmp_path / "other" / "buildah").exists()


def test_the_turn_of_a_builder_that_was_killed_is_taken_at_once(store: Store) -> None:
    def hold_and_die() -> None:
        with build_turn.of_the_workspace(store, "ab", print):
            os._exit(9)

    child = multiprocessing.get_context("fork").Process(target=hold_and_die)
    child.start()
    child.join()
    said: list[str] = []
    with build_turn.of_the_workspace(store, "ab", said.append):
        assert said == []


def test_a_resubmitted_run_has_the_same_image_and_another_one_only_when_asked(
    cli: Tyard, image_registry: str
) -> None:
    name = f"{image_registry}/pins/again:1"
    first = push_image(name, variant([], b"no python in it\n"))
    cli.run("", code=3, image=name)
    push_image(name, variant([], b"newer\n"))
    assert " -> " in cli("env", "update", "job.yaml")
    cli("runs", "resubmit", "1", code=3)
    cli("runs", "resubmit", "1", "--rebuild", code=3)
    images = [json.loads(cli("runs", "show", str(run), "--json"))["environment"]["image"] for run in (1, 2, 3)]
    assert images[:2] == [f"{image_registry}/pins/again@{first}"] * 2
    assert images[2] not in images[:2]
    assert f"image        {images[2]}\n" in cli("runs", "show", "3")
