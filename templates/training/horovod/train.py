"""Train a small image classifier with Horovod: each rank trains on its share and gradients are averaged."""

import argparse
import gzip
import os
import time
from pathlib import Path

import horovod.tensorflow as hvd
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
    hvd.init()
    is_first = hvd.rank() == 0  # only rank 0 logs, saves and exports
    # One GPU per rank. Without this, every rank would allocate memory on all of them.
    gpus = tf.config.list_physical_devices("GPU")
    tf.config.set_visible_devices(gpus[hvd.local_rank() % len(gpus)] if gpus else [], "GPU")
    # Without GPUs, the ranks on a node share its cores; by default each would start a thread for every core.
    tf.config.threading.set_intra_op_parallelism_threads(max(1, len(os.sched_getaffinity(0)) // hvd.local_size()))
    run = Run.get_context()
    tf.keras.utils.set_random_seed(args.seed)
    images = tf.constant(load_idx(args.data_folder, "train-images-idx3"))
    labels = tf.constant(load_idx(args.data_folder, "train-labels-idx1").astype(np.int32))
    test_images = load_idx(args.data_folder, "t10k-images-idx3")
    test_labels = load_idx(args.data_folder, "t10k-labels-idx1").astype(np.int32)
    test_count = len(test_labels)
    mine = slice(hvd.rank(), None, hvd.size())  # every size-th example, starting at the rank-th
    test_images, test_labels = tf.constant(test_images[mine]), tf.constant(test_labels[mine])
    batch = min(args.batch_size, len(images) // hvd.size())
    # The same number on every rank: one that took an extra step would wait for the others forever.
    blocks = -(-(len(images) // (batch * hvd.size())) // 100)  # of at most 100 batches each
    steps = len(images) // (batch * hvd.size()) // blocks  # batches per block on this rank

    model = build_model(args, images.shape[1:], int(tf.reduce_max(labels)) + 1)
    # The global batch grows with the number of ranks; its gradient is less noisy and allows a larger learning rate.
    optimizer = tf.keras.optimizers.SGD(args.learning_rate * hvd.size())
    optimizer.build(model.trainable_variables)  # its variables must exist before tracing and restoring

    # One call trains a block of batches. A Python loop over batches costs more than a small model's arithmetic: it
    # crosses from Python to TensorFlow several dozen times per step. No jit_compile: XLA cannot compile Horovod.
    @tf.function
    def train_block(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        total = 0.0
        for step in tf.range(steps):  # tf.range becomes a loop in the graph; Python's range would be unrolled
            with tf.GradientTape() as tape:
                logits = model(images[step], training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels[step], logits)
                loss = tf.reduce_mean(losses)
            # Averages the gradients over the ranks, several per message.
            gradients = hvd.DistributedGradientTape(tape).gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            total += loss
        return hvd.allreduce(total / steps)

    def shuffled(epoch: int) -> tf.data.Dataset:
        # Gathers whole blocks: a pipeline that handles one image at a time costs more than the training.
        # Seeded by the epoch: all ranks draw the same order and each takes its own part, and a resumed run sees the
        # same batches as an uninterrupted one.
        order = np.random.default_rng([args.seed, epoch]).permutation(len(images))[mine][: blocks * steps * batch]
        chosen = tf.data.Dataset.from_tensor_slices(order.reshape(blocks, steps, batch))
        pairs = chosen.map(
            lambda at: (tf.gather(images, at), tf.gather(labels, at)), num_parallel_calls=tf.data.AUTOTUNE
        )
        return pairs.prefetch(tf.data.AUTOTUNE)

    @tf.function
    def accuracy(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        predicted = tf.argmax(model(images, training=False), axis=1, output_type=tf.int32)
        return hvd.allreduce(tf.reduce_sum(tf.cast(predicted == labels, tf.float32)), op=hvd.Sum) / test_count

    # When killed and restarted, the script continues after the last finished epoch. Only rank 0 reads the checkpoint
    # and broadcasts it; the same call makes all ranks start from the same random initial values.
    epoch = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(epoch=epoch, model=model, optimizer=optimizer)
    manager = tf.train.CheckpointManager(checkpoint, OUTPUTS / "checkpoints", max_to_keep=2)
    if is_first and manager.restore_or_initialize():
        print(f"Resumed after epoch {int(epoch)}", flush=True)
    hvd.broadcast_variables([epoch, *model.variables, *optimizer.variables], root_rank=0)

    while epoch < args.epochs:
        started = time.perf_counter()
        loss = float(tf.reduce_mean([train_block(*block) for block in shuffled(int(epoch))]))
        # The first epoch's rate includes tracing.
        rate = hvd.size() * blocks * steps * batch / (time.perf_counter() - started)
        epoch.assign_add(1)
        score = float(accuracy(test_images, test_labels))
        if is_first:
            manager.save()
            run.log("loss", loss)
            run.log("accuracy", score)
            run.log("samples_per_second", rate)
            print(
                f"Epoch {int(epoch)}/{args.epochs}: loss {loss:.4f}, accuracy {score:.4f}, {rate:,.0f} samples/s",
                flush=True,
            )

    # The signature for `tf.saved_model.load` and TensorFlow Serving: raw images in, class probabilities out.
    @tf.function(input_signature=[tf.TensorSpec([None, *images.shape[1:]], tf.uint8, name="images")])
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(model(images, training=False))}

    if is_first:
        tf.saved_model.save(model, str(OUTPUTS / "model"), signatures=serve)


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
