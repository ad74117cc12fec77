"""Train a small image classifier with parameter servers: they hold the variables, workers compute the gradients."""

import argparse
import gzip
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from tensoryard import Run  # provided by the launcher: nothing to install

OUTPUTS = Path("outputs")  # files written here are kept with the run
# The chief asks a worker for this many steps at once: one call per step would cost more than the step itself.
STEPS_PER_CALL = 50


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


def worker_dataset(folder: Path, count: int, shape: tuple[int, ...], batch: int) -> tf.data.Dataset:
    """Endless shuffled batches, read on the workers: these run TensorFlow operations only, no Python."""
    images, labels = (str(folder / f"train-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1"))
    pairs = tf.data.Dataset.zip(
        (
            tf.data.FixedLengthRecordDataset(images, int(np.prod(shape)), header_bytes=16, compression_type="GZIP"),
            tf.data.FixedLengthRecordDataset(labels, 1, header_bytes=8, compression_type="GZIP"),
        )
    )

    def decode(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        labels = tf.cast(tf.io.decode_raw(labels, tf.uint8), tf.int32)
        return tf.reshape(tf.io.decode_raw(images, tf.uint8), [batch, *shape]), tf.reshape(labels, [batch])

    # No sharding: every worker reads all data in its own order, so losing a worker loses no data.
    # Decoding whole batches costs one call per batch instead of one per image.
    pairs = pairs.cache().shuffle(count).repeat().batch(batch, drop_remainder=True)
    return pairs.map(decode, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def train(args: argparse.Namespace, cluster: tf.distribute.cluster_resolver.ClusterResolver) -> None:
    """The chief: creates variables on the servers, schedules steps on the workers, evaluates, saves and exports."""
    run = Run.get_context()
    tf.keras.utils.set_random_seed(args.seed)
    count, *shape = load_idx(args.data_folder, "train-images-idx3").shape
    classes = int(load_idx(args.data_folder, "train-labels-idx1").max()) + 1
    test_images = load_idx(args.data_folder, "t10k-images-idx3")
    test_labels = load_idx(args.data_folder, "t10k-labels-idx1")
    batch = min(args.batch_size, count)
    # An epoch is calls x steps batches, with at least one call for every worker.
    calls = max(cluster.cluster_spec().num_tasks("worker"), count // batch // STEPS_PER_CALL)
    steps = max(1, count // batch // calls)

    strategy = tf.distribute.ParameterServerStrategy(cluster)
    with strategy.scope():  # variables created here live on the parameter servers
        model = tf.keras.Sequential(
            [
                tf.keras.Input(shape, dtype="uint8"),
                tf.keras.layers.Rescaling(1 / 255),  # in the model, so serving takes the same raw bytes
                tf.keras.layers.Flatten(),
                tf.keras.layers.Dense(args.first_layer_neurons, activation="relu"),
                tf.keras.layers.Dense(args.second_layer_neurons, activation="relu"),
                tf.keras.layers.Dense(classes),
            ]
        )
        optimizer = tf.keras.optimizers.SGD(args.learning_rate)
        optimizer.build(model.trainable_variables)

    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        gradients = tape.gradient(loss, model.trainable_variables)
        # Asynchronous: each worker applies its gradients at once; others may have updated the variables meanwhile.
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def train_steps(batches: tf.data.Iterator) -> tf.Tensor:
        total = 0.0
        for _ in tf.range(steps):
            total += strategy.run(step, args=next(batches))
        return total / steps

    @tf.function(input_signature=[tf.TensorSpec([None, *shape], tf.uint8, name="images")])
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(model(images, training=False))}

    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    batches = iter(
        coordinator.create_per_worker_dataset(lambda: worker_dataset(args.data_folder, count, shape, batch))
    )

    # When killed and restarted, the script continues after the last finished epoch. By default each server would
    # write its variables to its own disk; with `on_chief` the chief writes all of them.
    epoch = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(epoch=epoch, model=model, optimizer=optimizer)
    manager = tf.train.CheckpointManager(checkpoint, OUTPUTS / "checkpoints", max_to_keep=2)
    on_chief = "/job:chief/replica:0/task:0/device:CPU:0"
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint, tf.train.CheckpointOptions(experimental_io_device=on_chief))
        print(f"Resumed after epoch {int(epoch)}", flush=True)

    while epoch < args.epochs:
        started = time.perf_counter()
        losses = [coordinator.schedule(train_steps, args=(batches,)) for _ in range(calls)]
        coordinator.join()  # raises what a step raised; another worker redoes a lost worker's steps
        rate = calls * steps * batch / (time.perf_counter() - started)  # the first epoch includes tracing
        loss = float(np.mean([value.fetch() for value in losses]))
        epoch.assign_add(1)
        manager.save(options=tf.train.CheckpointOptions(experimental_io_device=on_chief))
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
    options = tf.saved_model.SaveOptions(experimental_io_device=on_chief)
    tf.saved_model.save(model, str(OUTPUTS / "model"), signatures=serve, options=options)


def main(args: argparse.Namespace) -> None:
    cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver()  # reads TF_CONFIG, which the launcher sets
    if cluster.task_type != "worker":
        tf.config.set_visible_devices([], "GPU")  # else servers and chief would take the workers' GPU memory
    if cluster.task_type == "chief":
        train(args, cluster)
    else:  # serve the chief; join() never returns: the launcher stops these tasks when the chief is done
        config = tf.compat.v1.ConfigProto()
        # The default is one thread per core. With few cores they can all end up waiting for each other forever.
        config.inter_op_parallelism_threads = 16
        tf.distribute.Server(cluster.cluster_spec(), cluster.task_type, cluster.task_id, "grpc", config).join()


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
