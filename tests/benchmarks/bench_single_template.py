"""
Samples a second of templates/training/single/train.py beside other ways of writing the same training.

The same model (784-300-100-10), data (Fashion-MNIST), batch size, optimizer (plain SGD) and number of epochs, each in
a process of its own in the same environment, one after the other, and all of them again for each seed:

    template          train.py as `tyard init` copies it
    eager             a Python step a batch, as Azure ML's tutorial of 2019 has it
    keras             model.fit with its defaults
    keras, 50 steps   model.fit with steps_per_execution=50

Rate: samples of an epoch over its time, the median of all epochs but the first, which traces and compiles; of the
seeds the median again. First: seconds of the first epoch, the median of the seeds. Accuracy: on the 10,000 test
images after the last epoch, the mean of the seeds, and their least and most: after so few epochs one seed differs
from the next by a hundredth.

    python tests/benchmarks/bench_single_template.py [--epochs N] [--seeds N] [--python PATH] [--data-folder FOLDER]
"""

import argparse
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH, FIRST, SECOND, RATE = 50, 300, 100, 0.1
RIVALS = ("eager", "keras", "keras, 50 steps")
ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=BATCH)
    parser.add_argument("--python", help="an interpreter that has TensorFlow; default: the curated environment's")
    parser.add_argument("--data-folder", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--rival", choices=RIVALS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rival:
        run_rival(args)
        return
    python = args.python or curated_python()
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in ("template", *RIVALS)}
    for seed in range(1, args.seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            results["template"].append(template(python, args, seed, Path(folder)))
        for rival in RIVALS:
            results[rival].append(rival_result(python, args, seed, rival))
    best = median(results["template"], "rate")
    version = results["eager"][0]["version"]
    print(
        f"TensorFlow {version}, batch {args.batch_size}, {args.epochs} epochs, {args.seeds} seeds, "
        f"{os.cpu_count()} cores"
    )
    print(f"{'':16} {'samples/s':>10} {'first':>7} {'accuracy':>26}  template is")
    for name, of_seeds in results.items():
        rate = median(of_seeds, "rate")
        accuracies = [result["accuracy"] for result in of_seeds]
        accuracy = f"{statistics.mean(accuracies):.4f} ({min(accuracies):.4f} to {max(accuracies):.4f})"
        ratio = "" if name == "template" else f"{best / rate:.1f} x as fast"
        print(f"{name:16} {rate:10,.0f} {median(of_seeds, 'first'):6.1f}s {accuracy:>26}  {ratio}")


def median(results: list[dict[str, Any]], field: str) -> float:
    return statistics.median(result[field] for result in results)


def curated_python() -> str:
    from tensoryard.environment.spec import environment_spec
    from tensoryard.environment.venv import VenvBuilder

    return VenvBuilder().ensure(environment_spec(way="single"), lambda line: print(line, file=sys.stderr)).python


def template(python: str, args: argparse.Namespace, seed: int, folder: Path) -> dict[str, Any]:
    """What the real script logs, through a stand-in for the module that the launcher puts on its path."""
    (folder / "path").mkdir()
    shutil.copy(ROOT / "training/tensoryard/context.py", folder / "path" / "tensoryard.py")
    script = [python, ROOT / "templates/training/single/train.py", "--data-folder", args.data_folder.absolute()]
    arguments = ["--batch-size", args.batch_size, "--learning-rate", RATE, "--epochs", args.epochs]
    arguments += ["--first-layer-neurons", FIRST, "--second-layer-neurons", SECOND, "--seed", seed]
    told = {
        "PYTHONPATH": str(folder / "path"),
        "TYARD_RUN_DIR": str(folder),
        "TYARD_RUN_ID": "b-0001",
        "TYARD_TASK": "b",
    }
    subprocess.run(
        [*map(str, script), *map(str, arguments)], cwd=folder, env=quiet(told), check=True, capture_output=True
    )
    logged = [json.loads(line) for line in (folder / "metrics/b.jsonl").read_text().splitlines()]
    rates = [record["value"] for record in logged if record["name"] == "samples_per_second"]
    accuracies = [record["value"] for record in logged if record["name"] == "accuracy"]
    samples = len(read(args.data_folder, "train-labels-idx1")) - 8
    return {"rate": statistics.median(rates[1:]), "first": samples / rates[0], "accuracy": accuracies[-1]}


def rival_result(python: str, args: argparse.Namespace, seed: int, rival: str) -> dict[str, Any]:
    own = [
        "--epochs",
        args.epochs,
        "--batch-size",
        args.batch_size,
        "--data-folder",
        args.data_folder,
        "--rival",
        rival,
        "--seed",
        seed,
    ]
    said = subprocess.run(
        [python, __file__, *map(str, own)],
        env=quiet({}),
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    result: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    return result


def quiet(more: dict[str, str]) -> dict[str, str]:
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **more}


def read(folder: Path, name: str) -> bytes:
    return gzip.decompress((folder / f"{name}-ubyte.gz").read_bytes())


def run_rival(args: argparse.Namespace) -> None:
    """In TensorFlow's own environment: trains, and prints one line of JSON."""
    import numpy as np
    import tensorflow as tf

    def load(name: str) -> tuple[Any, Any]:
        images = np.frombuffer(read(args.data_folder, f"{name}-images-idx3"), np.uint8, offset=16)
        labels = np.frombuffer(read(args.data_folder, f"{name}-labels-idx1"), np.uint8, offset=8).astype(np.int64)
        return images.reshape(len(labels), -1).astype(np.float32) / 255, labels

    tf.keras.utils.set_random_seed(args.seed)
    (images, labels), (test_images, test_labels) = load("train"), load("t10k")
    layers = [tf.keras.layers.Dense(FIRST, "relu"), tf.keras.layers.Dense(SECOND, "relu"), tf.keras.layers.Dense(10)]
    model = tf.keras.Sequential([tf.keras.Input(images.shape[1:]), *layers])
    optimizer = tf.keras.optimizers.SGD(RATE)
    data = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(images))
    data = data.batch(args.batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)

    def eager_epoch() -> None:
        for batch_images, batch_labels in data:
            with tf.GradientTape() as tape:
                logits = model(batch_images, training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=batch_labels, logits=logits)
                loss = tf.reduce_mean(losses)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    epoch: Callable[[], object] = eager_epoch
    if args.rival != "eager":
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, steps_per_execution=50 if "50" in args.rival else 1)
        epoch = lambda: model.fit(data, epochs=1, verbose=0)  # noqa: E731
    seconds = []
    for _ in range(args.epochs):
        started = time.perf_counter()
        epoch()
        seconds.append(time.perf_counter() - started)
    predicted = model(test_images, training=False).numpy().argmax(axis=1)
    result = {
        "rate": len(images) / statistics.median(seconds[1:]),
        "first": seconds[0],
        "accuracy": float((predicted == test_labels).mean()),
        "version": tf.__version__,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
