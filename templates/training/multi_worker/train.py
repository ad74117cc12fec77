"""Train a small image classifier on synchronous workers: each trains on its share and gradients are summed."""

import argparse
import gzip
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from tensoryard import Run  # provided by the launcher: nothing to install

OUTPUTS = Path("outputs")  # files written here are kept with the run


def load_idx(folder: Path, name: str) -> np.ndarray:
    """The array in one of MNIST's IDX .gz files: bytes of shape (n, height, width) for images, (n,) for labels."""
    path = folder / f"{name}-ubyte.gz"
    if not path.is_file():
        raise SystemExit(
            f"train.py: no {path.name} in {folder}; `tyard data fetch --help` lists data sets to put there"
        )
    data = gzip.decompress(path.read_bytes())
    axes = data[3]  # the header: 0, 0, type (8 = unsigned bytes), number of axes, one big-endian length per axis
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(np.frombuffer(data, ">u4", axes, offset=4))


def build_model(args: argparse.Namespace, image_shape: tuple[int, ...], classes: int) -> tf.keras.Model:
    # Scaling is a layer of the model, so training and serving take the same raw bytes.
    return tf.keras.Sequential(
        [
            tf.keras.Input(image_shape, dtype="uint8"),
            tf.keras.layers.Rescaling(1 / 255),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(args.first_layer_neurons, activation="relu"),
            tf.keras.layers.Dense(args.second_layer_neurons, activation="relu"),
            tf.keras.layers.Dense(classes),
        ]
    )


def main(args: argparse.Namespace) -> None:
    # Must come first: it connects the workers, which TensorFlow refuses once any operation has run.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()  # reads TF_CONFIG, which the launcher sets
    cluster = strategy.cluster_resolver
    is_chief = cluster.task_id == 0  # worker 0 also evaluates, logs, saves and exports
    run = Run.get_context()
    tf.keras.utils.set_random_seed(args.seed)

    images = load_idx(args.data_folder, "train-images-idx3")
    labels = load_idx(args.data_folder, "train-labels-idx1").astype(np.int32)
    test_images = load_idx(args.data_folder, "t10k-images-idx3")
    test_labels = load_idx(args.data_folder, "t10k-labels-idx1")
    replicas = strategy.num_replicas_in_sync  # one per GPU, or one per worker without GPUs
    batch = min(args.batch_size, len(images) // replicas)
    global_batch = batch * replicas
    # The same number on every worker: one that took an extra step would wait for the others forever.
    steps = len(images) // global_batch

    def worker_dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
        # Each example belongs to one worker. AutoShardPolicy would try to split by file, and there is only one.
        # Shuffling indices and gathering whole batches is several times as fast as shuffling single images.
        order = tf.data.Dataset.range(len(images)).shard(context.num_input_pipelines, context.input_pipeline_id)
        order = order.shuffle(len(images), seed=args.seed).repeat().batch(batch, drop_remainder=True)
        pairs = order.map(
            lambda at: (tf.gather(images, at), tf.gather(labels, at)), num_parallel_calls=tf.data.AUTOTUNE
        )
        return pairs.prefetch(tf.data.AUTOTUNE)

    batches = iter(strategy.distribute_datasets_from_function(worker_dataset))

    with strategy.scope():  # variables created here stay in sync on all workers
        model = build_model(args, images.shape[1:], int(labels.max()) + 1)
        # The global batch grows with the replicas; its gradient is less noisy and allows a larger learning rate.
        optimizer = tf.keras.optimizers.SGD(args.learning_rate * replicas)
        optimizer.build(model.trainable_variables)
        mean_loss = tf.keras.metrics.Mean()

    def step(images: tf.Tensor, labels: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(images, training=True))
            # Divided by the global batch size, because apply_gradients sums the replicas' gradients.
            loss = tf.nn.compute_average_loss(losses, global_batch_size=global_batch)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        mean_loss.update_state(losses)

    @tf.function  # one call per epoch: a Python loop over batches costs more than a small model's arithmetic
    def train_epoch(batches: tf.distribute.DistributedIterator) -> None:
        for _ in tf.range(steps):
            strategy.run(step, args=next(batches))

    @tf.function(input_signature=[tf.TensorSpec([None, *images.shape[1:]], tf.uint8, name="images")])
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(model(images, training=False))}

    @tf.function
    def wait_for_all() -> None:  # before exiting: a worker that still saves takes another's exit for a crash
        strategy.run(lambda: tf.distribute.get_replica_context().all_reduce("SUM", 1.0))

    # When killed and restarted, the script continues after the last finished epoch. Saving can need all workers, so
    # all of them save, but only worker 0 into outputs. All restore from there: they share that folder.
    epoch = tf.Variable(0, dtype=tf.int64)
    kept = OUTPUTS if is_chief else Path(tempfile.mkdtemp())
    checkpoint = tf.train.Checkpoint(epoch=epoch, model=model, optimizer=optimizer)
    manager = tf.train.CheckpointManager(checkpoint, kept / "checkpoints", max_to_keep=2)
    latest = tf.train.latest_checkpoint(OUTPUTS / "checkpoints")
    if latest:
        checkpoint.restore(latest)
        print(f"Resumed after epoch {int(epoch)}", flush=True)

    while epoch < args.epochs:
        started = time.perf_counter()
        mean_loss.reset_state()
        train_epoch(batches)
        loss = float(mean_loss.result())  # over all workers
        rate = steps * global_batch / (time.perf_counter() - started)  # the first epoch includes tracing
        epoch.assign_add(1)
        manager.save()
        if is_chief:
            predicted = serve(tf.constant(test_images))["probabilities"].numpy().argmax(axis=1)
            accuracy = float(np.mean(predicted == test_labels))
            run.log("loss", loss)
            run.log("accuracy", accuracy)
            run.log("samples_per_second", rate)
            print(
                f"Epoch {int(epoch)}/{args.epochs}: loss {loss:.4f}, accuracy {accuracy:.4f}, {rate:,.0f} samples/s",
                flush=True,
            )

    # The signature for `tf.saved_model.load` and TensorFlow Serving: raw images in, class probabilities out.
    tf.saved_model.save(model, str(kept / "model"), signatures=serve)
    if not is_chief:
        shutil.rmtree(kept)
    wait_for_all()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-folder", type=Path, required=True, help="holds MNIST's four IDX .gz files")
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--first-layer-neurons", type=int, default=300)
    parser.add_argument("--second-layer-neurons", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    main(parser.parse_args())
